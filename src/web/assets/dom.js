// Elements, numbers and times as the page shows them. Amounts are shown as Postgres wrote them; floats are for drawing alone.

export const $ = (id) => document.getElementById(id);

export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/**
 * A row of a table that becomes a card in a narrow window: each cell has its column's name, and the roles that
 * `display: block` would take from it.
 */
export function row(columns, cells, attributes = {}) {
  return el("tr", { role: "row", ...attributes }, ...cells.map((cell, index) => {
    const [name, kind] = columns[index];
    return el("td", { role: "cell", class: kind, "data-label": name }, cell);
  }));
}

/** Thousands in groups, whatever the length: 1234567.50 → 1,234,567.50. */
export function grouped(text) {
  const [whole, fraction] = String(text).split(".");
  const digits = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return fraction === undefined ? digits : `${digits}.${fraction}`;
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
export const short = (n) => compact.format(n);
const pad = (n) => String(n).padStart(2, "0");
export const clock = (at) => `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
const day = (at) => `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;

/** Today only the time of day. */
export function when(at) {
  return day(at) === day(new Date()) ? clock(at) : `${day(at)} ${clock(at)}`;
}

export function lasting(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 120) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  return s < 7200 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}

export const time = (text) => el("time", { datetime: text }, when(new Date(text)));
export const keyText = (key) => Object.values(key).map((value) => (value === null ? "NULL" : String(value))).join(", ");
export const micros = (at) => new Date(at / 1000);
