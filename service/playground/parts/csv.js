// Reads delimited text (RFC 4180): quoted cells, doubled quotes, line ends inside quotes, any of \n, \r\n and \r.

/**
 * The rows that are not blank, each with the line that it begins in (the first is 1).
 * Behind a closing quote a cell goes on as plain text, and a quote inside a plain cell is itself, as spreadsheets have
 * it. A quote that is never closed marks its row: `unclosed`.
 */
export function readRows(text, delimiter) {
  // A quoted part, whether it is closed, what stands behind it, and what ends the cell.
  const cell = new RegExp(`(?:"([^"]*(?:""[^"]*)*)("?))?([^${delimiter}\\r\\n]*)(${delimiter}|\\r\\n|\\n|\\r|$)`, "y");
  const rows = [];
  let row = { line: 1, cells: [] };
  let line = 1;
  while (cell.lastIndex < text.length) {
    const [, quoted, closing, plain, end] = cell.exec(text);
    row.cells.push(quoted === undefined ? plain : quoted.replaceAll('""', '"') + plain);
    if (closing === "") row.unclosed = true;
    line += quoted === undefined ? 0 : lineEnds(quoted);
    if (end === delimiter) continue;
    line += 1;
    rows.push(row);
    row = { line, cells: [] };
  }
  if (row.cells.length > 0) rows.push({ ...row, cells: [...row.cells, ""] }); // the text ended with a delimiter
  return rows.filter((found) => found.unclosed || found.cells.some((value) => value !== ""));
}

function lineEnds(text) {
  return text.match(/\r\n|\n|\r/g)?.length ?? 0;
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
