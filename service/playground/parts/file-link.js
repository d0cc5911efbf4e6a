// Links to files of the API. A plain link sends no key, so with a key in use the file is fetched and saved instead.

import { api, apiKey } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { busy, problemBox } from "../lib/ui.js";

/** name: what the file is saved as; opens: whether it is shown in a tab of its own where a plain link can do it. */
export function fileLink(label, path, { name, opens = true, kind = "quiet" }) {
  const where = opens ? { target: "_blank", rel: "noopener" } : { download: name };
  const link = h("a", { class: `button small ${kind}`, href: path, ...where, onclick: fetched }, label);

  function fetched(event) {
    if (apiKey() === null) return;
    event.preventDefault();
    busy(link, save);
  }

  async function save() {
    try {
      const url = URL.createObjectURL(await api.file(path));
      h("a", { href: url, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      link.parentElement.after(problemBox(error));
    }
  }

  return link;
}
