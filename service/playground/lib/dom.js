// Elements made of text nodes, attributes and listeners: what a user or a model wrote is never parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "indeterminate", "open", "selected", "readOnly"]);

/**
 * An HTML element. Children are nodes, texts, numbers, or lists of them; null and false are left out.
 *
 * Props: `onclick` and the like are listeners, `class` may be a list, `style` an object of properties, `dataset` an
 * object; true makes an empty attribute, and null, undefined and false none.
 */
export function h(tag, props, ...children) {
  return build(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function svg(tag, props, ...children) {
  return build(document.createElementNS(SVG, tag), props, children);
}

/** Puts these children in the place of all that the element has. */
export function replace(element, ...children) {
  element.replaceChildren(...flat(children));
  return element;
}

/** Sets attributes, properties and listeners as `h` does. */
export function set(element, props) {
  for (const [name, value] of Object.entries(props ?? {})) put(element, name, value);
  return element;
}

function build(element, props, children) {
  set(element, props).append(...flat(children));
  return element;
}

function put(element, name, value) {
  if (name.startsWith("on")) {
    if (value) element.addEventListener(name.slice(2).toLowerCase(), value);
  } else if (name === "style") {
    for (const [property, setting] of Object.entries(value ?? {})) element.style.setProperty(property, setting);
  } else if (name === "dataset") {
    Object.assign(element.dataset, value);
  } else if (PROPERTIES.has(name) && name in element) {
    if (value !== undefined && value !== null) element[name] = value;
  } else if (value === undefined || value === null || value === false) {
    element.removeAttribute(name);
  } else {
    const text = Array.isArray(value) ? value.filter(Boolean).join(" ") : value;
    element.setAttribute(name, text === true ? "" : String(text));
  }
}

function flat(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false && child !== true)
    .map((child) => (child instanceof Node ? child : String(child)));
}
