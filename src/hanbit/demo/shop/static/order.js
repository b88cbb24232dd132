// Ask our own server until the order has another state, then put that state's page in the place of this one. The document stays: the
// payment window beside it speaks to this very one.
const order = () => document.getElementById("order");
const POLL_MS = 1500;

async function show() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const next = page.getElementById("order");
  if (next === null || next.dataset.state === order().dataset.state) return;
  document.title = page.title;
  order().replaceWith(document.adoptNode(next));
}

async function wait() {
  for (let final = false; !final; ) {
    try {
      const answer = await fetch(`/orders/${order().dataset.tid}?wait=1`, { headers: { Accept: "application/json" }, cache: "no-store" });
      if (answer.status === 404) return;
      const told = await answer.json();
      if (answer.ok && told.state !== order().dataset.state) await show();
      final = answer.ok && told.final;
    } catch {
      // The shop restarts or the network is gone: ask again.
    }
    if (!final) await new Promise((resume) => setTimeout(resume, POLL_MS));
  }
}

// What the window says is only a hint to look: our own server knows.
addEventListener("hanbit:result", () => show().catch(() => {}));
wait();
