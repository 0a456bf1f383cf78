// Runs before the first paint, as a classic script of its own: a reading room must not flash white.
(() => {
  const chosen = localStorage.getItem("cxr-sr-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset["theme"] = chosen;
  document.documentElement.classList.add("js");
})();
