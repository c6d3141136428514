"""What is told where the MLflow store fails: one line of what happened and what to do."""

import os
import re
import sys

ACCOUNT = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
CERTIFICATE = "MLFLOW_TRACKING_SERVER_CERT_PATH"

BROKEN_OFF = "it broke off the connection"

# By what MLflow, requests, urllib3, OpenSSL and the databases say of it; the first that matches.
CAUSES = {
    r"code:? 401|401 Client": f"user name or password is wrong; set {ACCOUNT}",
    r"Invalid Host header": "it does not answer to this name; its administrator adds it with --allowed-hosts",
    r"code:? 403|403 Client": "this user may not do that; its administrator gives the permission",
    r"invalid path: ": f"there is no certificate at that path; set {CERTIFICATE}",
    r"certificate has expired": "its certificate has expired; its administrator makes a new one",
    r"(Hostname|IP address) mismatch": "its certificate is of another name or address; see MLFLOW_TRACKING_URI",
    r"CERTIFICATE_VERIFY_FAILED|NO_CERTIFICATE_OR_CRL": f"its certificate is not trusted; {CERTIFICATE} has to name "
    "the certificate that its administrator gives out",
    r"WRONG_VERSION_NUMBER": "it does not speak https; see MLFLOW_TRACKING_URI",
    r"Failed to resolve": "there is no host of that name; see MLFLOW_TRACKING_URI",
    r"Connection refused": "nothing answers there; see MLFLOW_TRACKING_URI, or start the server",
    r"but the response body was not": "what answers there is no MLflow server; see MLFLOW_TRACKING_URI",
    r"No space left|DiskFull|disk is full": "its disk is full",
}  # fmt: skip
# Where its database or its artifact store fails, MLflow's server answers 5xx, whose text urllib3 does not keep.
UNSPECIFIC = {
    r"too many (5\d\d) error responses|code:? (5\d\d)": "it fails with status {}: its database may be down or its disk "
    "full, which its log says",
    r"RemoteDisconnected|Connection reset|Broken pipe|EOF": BROKEN_OFF,
    r"timed out": "no answer in time",
}  # fmt: skip
NOT_STORED = "it did not store {}: its artifact store fails (bucket, keys, space) or is slow, which its log says"


class NotStored(Exception):
    """The server did not keep the file that it names, for the exception that this one comes of."""


def _messages(error: BaseException | None) -> str:
    """Those of an error and of the ones that it comes of."""
    messages = []
    while error is not None:
        messages.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return "\n".join(messages)


def _said(error: Exception) -> str:
    """What is wrong and what to do; where nobody knows, what the store said."""
    messages, causes = _messages(error), CAUSES
    if not isinstance(error, NotStored):
        causes = CAUSES | UNSPECIFIC
    for pattern, sentence in causes.items():
        if found := re.search(pattern, messages):
            return sentence.format(next(filter(None, found.groups()), ""))
    if isinstance(error, NotStored):
        return NOT_STORED.format(error)
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else "no answer in time"


def explain(error: Exception) -> str:
    """The store and what is wrong with it, on one line without the password that a store's URL may hold."""
    place = os.environ.get("MLFLOW_TRACKING_URI")
    text = _said(error)
    if text == BROKEN_OFF and place and place.startswith("http://"):
        text += "; a server with a certificate needs https:// in MLFLOW_TRACKING_URI"
    text = text.replace("<database_uri>", place or "sqlite:///mlflow.db")
    return re.sub(r"//[^/@\s]*@", "//", f"MLflow at {place or 'mlflow.db'}: {text}")[:400]


def warn(error: Exception, rest: str) -> None:
    """One line on stderr."""
    print(f"warning: {explain(error)}; {rest}", file=sys.stderr)
