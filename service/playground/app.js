// The shell: loads the view that the address names, on first use, and says how the service is.
//
// A view is a module views/<name>.js: `export const title`, optionally `export const lead` (a sentence below the title),
// and `export function mount(root, context)`, which returns what stops it. The shell writes the title as <h1>, so a view
// begins with <h2>. context: {api, params, navigate(name, params, {quiet}), state, announce(text)}; `quiet` only changes
// the address, for sharing, and leaves the view as it is.

import { api } from "./lib/api.js";
import { h, replace, set } from "./lib/dom.js";
import { hashOf, parseHash, VIEWS } from "./lib/router.js";
import { watchState } from "./lib/state.js";
import { themeSwitch } from "./lib/theme.js";
import { showState } from "./lib/banner.js";
import { button, problemBox } from "./lib/ui.js";

const main = document.getElementById("view");
const announcer = document.getElementById("announcer");
const state = watchState();
const links = new Map(VIEWS.map(([name, label]) => [name, h("a", { href: hashOf(name) }, label)]));
let unmount = null;
let shown = 0;

function announce(text) {
  // An unchanged text would not be read out again.
  announcer.textContent = announcer.textContent === text ? `${text}\u00a0` : text;
}

function navigate(name, params, { quiet = false } = {}) {
  const hash = hashOf(name, params);
  if (quiet) history.replaceState(null, "", hash);
  else if (location.hash === hash) show();
  else location.hash = hash;
}

async function show() {
  const { name, params } = parseHash(location.hash);
  const turn = (shown += 1);
  for (const [view, link] of links) set(link, { "aria-current": view === name && "page" });
  let view;
  try {
    view = await import(`./views/${name}.js`);
  } catch (error) {
    view = { title: "This view could not be loaded", mount: (root) => notLoaded(root, error) };
  }
  if (turn !== shown) return; // somebody was faster
  unmount?.();
  const root = h("div", { class: ["view", `view-${name}`] });
  const heading = h("h1", { tabindex: "-1" }, view.title);
  replace(main, h("div", { class: "view-head" }, heading, view.lead && h("p", { class: "lead" }, view.lead)), root);
  document.title = `${view.title} · Palimpsest`;
  unmount = view.mount(root, { api, params, navigate, state, announce });
  if (turn > 1) {
    scrollTo(0, 0);
    heading.focus({ preventScroll: true });
  }
}

function notLoaded(root, error) {
  root.append(problemBox(error), button("Load the page again", () => location.reload(), { kind: "primary" }));
}

document.getElementById("nav").append(...[...links.values()].map((link) => h("li", null, link)));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", show);
themeSwitch(document.getElementById("theme-switch"));
showState(state, document.getElementById("banner"), document.getElementById("head-chip"));
state.refresh();
show();
