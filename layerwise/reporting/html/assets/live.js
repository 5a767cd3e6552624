// Asks for the rows again as long as the page is seen.
(function () {
  "use strict";
  const rows = document.getElementById("rows");
  const state = document.getElementById("state");
  async function follow() {
    if (document.hidden) return;
    try {
      const answer = await fetch("/rows", { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status);
      rows.innerHTML = await answer.text(); // the server has escaped all values
      state.textContent = "As of the files; this page follows them.";
    } catch {
      state.textContent = "The server does not answer: is `layerwise watch` still running?";
    }
  }
  setInterval(follow, 3000);
  document.addEventListener("visibilitychange", follow);
})();
