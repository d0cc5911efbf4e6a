// Puts the chosen theme on before anything is painted; a classic script in the head, so that nothing flashes.
"use strict";
{
  const chosen = localStorage.getItem("palimpsest-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
