// Tokens as one line of text that can be read: white space and what cannot be seen is written out.

const LONGEST = 24;
const ESCAPES = { "\n": "\\n", "\t": "\\t", "\r": "\\r" };

/** A token without its leading space; a token of nothing but spaces is shown as dots. */
export function tokenText(token) {
  const text = token.replace(/[\n\t\r]/g, (sign) => ESCAPES[sign]).replace(/[\p{Cc}\p{Cf}]/gu, escaped);
  const shown = text.trim() === "" ? text.replaceAll(" ", "·") : text.trim();
  return shown.length > LONGEST ? `${shown.slice(0, LONGEST - 1)}…` : shown;
}

function escaped(sign) {
  return `\\u${sign.codePointAt(0).toString(16).padStart(4, "0")}`;
}
