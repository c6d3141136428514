"""Open the MLflow page of all runs: serve it until Ctrl-C, and print the links of its views.

    python -m stages.ui --port 5000

The last line is the link of the table of runs. What MLflow's server prints goes to mlflow-server.log. Where
MLFLOW_TRACKING_URI names a server, that has a page of its own: the links are of it, and none is started.
"""

import argparse
import signal
import time

from stages.system import errors
from stages.tracking import server, views
from stages.tracking.store import project_root, store_uri

LOG = "mlflow-server.log"


def print_links(links: views.Links) -> None:
    for question, link in links.views.items():
        print(f"{question}\n    {link}")
    if links.remark:
        print(links.remark)


def main(port: int) -> None:
    root = project_root()
    store, log = store_uri(root), root / LOG
    if store.startswith(("http://", "https://")):
        links = views.save(store.rstrip("/"))
        print_links(links)
        print(f"\n{links.table}")
        return
    server.require_free(port)
    links = views.save(f"http://{server.HOST}:{port}")
    print("MLflow's server starts …", flush=True)
    try:
        with server.serving(store, port, root / "mlartifacts", log) as process:
            print_links(links)
            print(f"Ctrl-C ends the server; what it prints is in {LOG}. MLflow opens its assistant once: close it.")
            print(f"The table of runs:\n\n{links.table}", flush=True)
            while True:
                server.require_running(process, log)
                time.sleep(1)
    except KeyboardInterrupt:
        print("\nMLflow's server has ended.")


def port_number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port: a number from 1 to 65535, such as 5001")
    return int(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=port_number, default=5000, help="of the page (default: 5000)")
    arguments = parser.parse_args()
    if hasattr(signal, "SIGHUP"):  # the terminal was closed: end the server too

        def hang_up(*_):
            raise errors.Stopped

        signal.signal(signal.SIGHUP, hang_up)
    errors.run(lambda: main(arguments.port))
