"use strict";

/* Pictures in large: click or Enter opens one, arrow keys go to its neighbours on the page. */
(() => {
  const dialog = document.getElementById("large");
  const picture = document.getElementById("large-picture");
  const text = document.getElementById("large-text");
  const buttons = [...document.querySelectorAll("button.picture")];
  let at = 0;

  function show(place) {
    at = (place + buttons.length) % buttons.length;
    const image = buttons[at].querySelector("img");
    picture.src = image.getAttribute("src");
    picture.alt = image.alt;
    text.textContent = buttons[at].dataset.said || image.alt;
  }

  buttons.forEach((button, place) => button.addEventListener("click", () => {
    show(place);
    dialog.showModal();
  }));
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    show(at + step);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => buttons[at].focus());
})();
