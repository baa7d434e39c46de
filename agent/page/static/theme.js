// Runs before the first paint, so that nobody sees the wrong theme flash by.
{
  const kept = localStorage.getItem("theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
}
