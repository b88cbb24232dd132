// Ask our own server until the order has another state, then show the page of that state.
const order = document.getElementById("order");
const { tid, state } = order.dataset;

async function wait() {
  for (;;) {
    try {
      const answer = await fetch(`/orders/${tid}?wait=1`, { headers: { Accept: "application/json" }, cache: "no-store" });
      if (answer.ok && (await answer.json()).state !== state) {
        location.reload();
        return;
      }
      if (answer.status === 404) return;
    } catch {
      // The shop restarts or the network is gone: ask again.
    }
    await new Promise((resume) => setTimeout(resume, 1500));
  }
}
wait();
