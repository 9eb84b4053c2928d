"""A person at a browser without a screen: cookies, links, and forms with their hidden fields."""

import html
import http.cookiejar
import re
import shlex
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not to a program that has asked: nobody listens there."""

    def __init__(self, browser):
        self.browser = browser

    def redirect_request(self, request, answer, status, text, headers, url):
        program = self.browser.program
        if program and url.startswith(program):
            self.browser.sent_to = url
            return None
        return super().redirect_request(request, answer, status, text, headers, url)


class Browser:
    """Its cookies can be kept in a file, for the next one. `program` is where a program waits for its answer."""

    def __init__(self, file=None):
        # Browsers take this machine for a safe place, also without TLS.
        policy = http.cookiejar.DefaultCookiePolicy(secure_protocols=("http", "https"))
        self.jar = http.cookiejar.LWPCookieJar(str(file) if file else None, policy=policy)
        if file and Path(file).exists():
            self.jar.load(ignore_discard=True)
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar), Redirects(self))
        self.url, self.page, self.status = "", "", 0
        self.program, self.sent_to = None, None

    def open(self, url, form=None):
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        try:
            answer = self.opener.open(urllib.parse.urljoin(self.url, url), data, timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        self.url, self.status = answer.url, answer.status
        self.page = answer.read().decode()
        if self.jar.filename:
            self.jar.save(ignore_discard=True)
        return self

    def follow(self, pattern):
        """Opens the first link whose address has this in it."""
        links = [html.unescape(link) for link in re.findall(r'href="([^"]+)"', self.page)]
        return self.open(next(link for link in links if pattern in link))

    def submit(self, action=None, at=0, **fields):
        """Sends a form of the page, by its action or its number, with what it holds and these fields."""
        forms = re.findall(r"<form.*?</form>", self.page, re.S)
        if action:
            forms = [form for form in forms if f'action="{action}"' in form]
        assert forms, (action, self.url, self.page)
        goes_to = html.unescape(re.search(r'action="([^"]+)"', forms[at]).group(1))
        held = {}
        for tag in re.findall(r"<input[^>]*>", forms[at]):
            value = re.search(r'value="([^"]*)"', tag)
            if 'type="hidden"' in tag or value:
                held[re.search(r'name="([^"]*)"', tag).group(1)] = html.unescape(value[1]) if value else ""
        return self.open(goes_to, {**held, **fields})

    def heading(self):
        return html.unescape(re.search("<h1[^>]*>(.*?)</h1>", self.page, re.S)[1])

    def sign_in(self, account, user_name, password):
        return self.submit("/sign-in", account=account, user_name=user_name, password=password)

    def allow(self):
        """Allows what a program asks for, on the pages that follow."""
        if self.heading() == "Connect a device":
            self.submit("/device")
        forms = {action: f'action="{action}"' in self.page for action in ("/device/decide", "/authorize", "/oauth2/authorize")}
        action = next((action for action, is_there in forms.items() if is_there), None)
        assert action, (self.url, self.page)
        return self.submit(action, decision="allow")


def program(path, account, user_name, password):
    """Writes the program for the variable BROWSER: the person signs in there, and allows what is asked."""
    lines = (
        f"#!{sys.executable}",
        "import os, sys",
        # As browsers do: some programs wait for the one that they start.
        "os.fork() and os._exit(0)",
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})",
        "from person import Browser",
        "browser = Browser().open(sys.argv[1])",
        f"browser.sign_in({account!r}, {user_name!r}, {password!r}).allow()",
        "assert browser.status == 200, browser.page",
    )
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o700)
    return shlex.quote(str(path))
