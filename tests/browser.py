"""Pages in a headless Chromium, which tests skip where there is none."""

import json
import re
import shutil
import subprocess
from html import unescape

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1300,1500", "--virtual-time-budget=20000", "--dump-dom",
)  # fmt: skip
# first in the page, so that nothing that fails is missed
_LISTENS = """<script>
const failures = [];
addEventListener("error", (event) => failures.push(event.message));
addEventListener("unhandledrejection", (event) => failures.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => failures.push(event.blockedURI));
for (const kind of ["error", "warn"]) console[kind] = (...all) => failures.push(all.join(" "));
const alert = (text) => failures.push(`alert ${text}`);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
</script>"""
_RUNS = """<script>
(async () => {
  while (!document.documentElement.dataset.ready && byId("trouble").hidden) await wait(50);
  let found;
  try { found = await (async () => { %s })(); } catch (error) { failures.push(error.stack); }
  const told = document.createElement("pre");
  told.id = "told";
  told.textContent = JSON.stringify({ found, failures });
  document.body.append(told);
})();
</script>"""


def run_in(page, folder, script):
    """What a script (the body of an async function) returns in the page, and what failed there."""
    text = page.read_text(encoding="utf-8")
    text = text.replace('<meta name="viewport"', _LISTENS + '<meta name="viewport"', 1)
    head, _, tail = text.rpartition("</body>")
    (folder / "probed.html").write_text(head + _RUNS % script + "</body>" + tail, encoding="utf-8")
    command = [CHROMIUM, *_FLAGS, f"--user-data-dir={folder}/profile"]
    done = subprocess.run(
        [*command, f"file://{folder}/probed.html"], capture_output=True, text=True, timeout=120
    )
    told = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert told, done.stderr[-2000:]
    answer = json.loads(unescape(told[1]))
    return answer.get("found"), answer["failures"]
