// The details of all pictures move together: what is shown follows from --x, --y (the point in the middle of each pane, in
// pixels of the pictures) and --zoom of their group.
(() => {
  const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const value = (group, name) => parseFloat(group.style.getPropertyValue(name));

  function show(group, x, y, zoom) {
    const whole = (v, last) => Math.round(Math.min(Math.max(v, 0), last) * zoom) / zoom;
    group.style.setProperty("--x", whole(x, value(group, "--w")));
    group.style.setProperty("--y", whole(y, value(group, "--h")));
    group.style.setProperty("--zoom", zoom);
    for (const button of group.querySelectorAll("[data-zoom]"))
      button.setAttribute("aria-pressed", Number(button.dataset.zoom) === zoom);
  }
  const move = (group, dx, dy) => {
    const zoom = value(group, "--zoom");
    show(group, value(group, "--x") + dx / zoom, value(group, "--y") + dy / zoom, zoom);
  };
  const zoomTo = (group, zoom) => show(group, value(group, "--x"), value(group, "--y"), zoom);

  function go(group, view, event) {
    const box = view.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * value(group, "--w");
    show(group, x, ((event.clientY - box.top) / box.height) * value(group, "--h"), value(group, "--zoom"));
  }

  let dragged = null;
  document.addEventListener("pointerdown", (event) => {
    const place = event.target.closest?.(".swl-pane, .swl-view");
    if (!place || event.button !== 0) return;
    const group = place.closest(".swl-detail");
    dragged = { group, view: place.matches(".swl-view") ? place : null, x: event.clientX, y: event.clientY };
    if (dragged.view) go(group, place, event);
    group.focus({ preventScroll: true });
    event.preventDefault();
  });
  document.addEventListener("pointermove", (event) => {
    if (!dragged) return;
    if (dragged.view) go(dragged.group, dragged.view, event);
    else move(dragged.group, dragged.x - event.clientX, dragged.y - event.clientY);
    dragged.x = event.clientX;
    dragged.y = event.clientY;
  });
  for (const name of ["pointerup", "pointercancel"]) document.addEventListener(name, () => (dragged = null));

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".swl-detail [data-zoom]");
    if (button) zoomTo(button.closest(".swl-detail"), Number(button.dataset.zoom));
  });
  document.addEventListener("keydown", (event) => {
    const group = event.target.closest?.(".swl-detail");
    if (!group) return;
    const zooms = [...group.querySelectorAll("[data-zoom]")].map((button) => Number(button.dataset.zoom));
    const now = zooms.indexOf(value(group, "--zoom"));
    if (KEYS[event.key]) move(group, ...KEYS[event.key].map((step) => step * (event.shiftKey ? 100 : 10)));
    else if (event.key === "+" && now < zooms.length - 1) zoomTo(group, zooms[now + 1]);
    else if (event.key === "-" && now > 0) zoomTo(group, zooms[now - 1]);
    else return;
    event.preventDefault();
  });
})();
