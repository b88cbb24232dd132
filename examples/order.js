// The order's page changes in place when the payment window is done. What the window says is a hint to look: the shop's own server knows.
const LOOKS_MAX = 30, PAUSE_MS = 2000
const pause = () => new Promise(done => setTimeout(done, PAUSE_MS))
async function look() {
  const answer = await fetch(`/return${location.search}`, { cache: 'no-store' }).catch(() => null)
  const page = new DOMParser().parseFromString(answer?.ok ? await answer.text() : '', 'text/html'), news = page.querySelector('#state')
  if (!news) return false
  document.title = page.title
  document.querySelector('main').replaceWith(document.adoptNode(page.querySelector('main')))
  return news.dataset.final === 'true'
}
addEventListener('hanbit:result', async () => {
  for (let looks = 0; looks < LOOKS_MAX && !(await look()); looks += 1) await pause()
})
