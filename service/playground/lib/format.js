// Numbers and times as people read them.

import { h } from "./dom.js";

const UNITS = [
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
];

/** 0.9962 as "99.6 %", on one line; what is tiny is said to be below 0.1 %, so that it does not look like nothing. */
export function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  if (share > 0 && share < 0.001) return "< 0.1\u00a0%";
  const value = share * 100;
  return `${value >= 99.95 || value === 0 ? value.toFixed(0) : value.toFixed(1)}\u00a0%`;
}

/** A number with so many significant digits, with thin spaces between thousands. */
export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en").replaceAll(",", "\u202f");
  if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential(digits - 1);
  return String(Number(value.toPrecision(digits)));
}

/** 75.4 as "1 min 15 s", 0.31 as "0.3 s". */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 60) return `${Math.round(value)} s`;
  const [minutes, rest] = [Math.floor(value / 60), Math.round(value % 60)];
  return minutes < 60 ? `${minutes} min ${rest} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** "3 minutes ago", as a <time> whose title is the exact moment. */
export function relativeTime(iso, now = Date.now()) {
  const then = new Date(iso);
  const passed = Math.max(0, (now - then.getTime()) / 1000);
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  const [unit, size] = UNITS.find(([, size]) => passed >= size) ?? ["second", 1];
  const text = passed < 5 ? "just now" : words.format(-Math.floor(passed / size), unit);
  return h("time", { datetime: iso, title: then.toLocaleString() }, text);
}

/** "1 edit", "3 edits". */
export function count(many, noun) {
  return `${number(many)} ${noun}${many === 1 ? "" : "s"}`;
}
