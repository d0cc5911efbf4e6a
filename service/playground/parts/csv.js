// Reads delimited text (RFC 4180): quoted cells, doubled quotes, line ends inside quotes, any of \n, \r\n and \r.

/**
 * The rows that are not blank, each with the line that it begins in (the first is 1).
 * Behind a closing quote a cell goes on as plain text, and a quote inside a plain cell is itself, as spreadsheets have
 * it. A quote that is never closed marks its row: `unclosed`.
 */
export function readRows(text, delimiter) {
  const rows = [];
  let row = { line: 1, cells: [] };
  let cell = "";
  let line = 1;
  let quoted = false;
  let begun = false; // whether the cell has anything, were it an empty pair of quotes
  const endCell = () => {
    row.cells.push(cell);
    cell = "";
    begun = false;
  };
  const endRow = () => {
    if (begun || row.cells.length > 0) {
      endCell();
      rows.push(row);
    }
    row = { line, cells: [] };
  };
  for (let at = 0; at < text.length; at++) {
    const sign = text[at];
    const lineEnd = sign === "\n" || sign === "\r";
    const pair = sign === "\r" && text[at + 1] === "\n";
    line += lineEnd && !pair ? 1 : 0;
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (text[at + 1] === '"') cell += text[++at];
      else quoted = false;
    } else if (sign === '"' && !begun) quoted = begun = true;
    else if (sign === delimiter) endCell();
    else if (lineEnd) {
      if (!pair) endRow();
    } else {
      cell += sign;
      begun = true;
    }
  }
  if (quoted) row.unclosed = true;
  endRow();
  return rows.filter((found) => found.unclosed || found.cells.some((value) => value !== ""));
}

/** Of comma, semicolon and tab the one that parts the first row into the most cells that `isName` knows. */
export function delimiterOf(text, isName) {
  const known = (delimiter) => (readRows(firstRow(text), delimiter)[0]?.cells ?? []).filter(isName).length;
  return [",", ";", "\t"].reduce((best, other) => (known(other) > known(best) ? other : best));
}

/** The text up to the first line that is not blank, with it. */
function firstRow(text) {
  const found = /^[\s,;]*[^\r\n]*/.exec(text);
  return found[0];
}
