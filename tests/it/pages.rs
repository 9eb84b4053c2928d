//! The pages for people, as a browser and as an attacker sends requests to them. What a real browser does
//! with them is in tests/clients/test_browser.py.

use std::time::Duration;

use brevet::sign_ins::Settings;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use crate::harness::*;
use crate::mfa::code;

const PASSWORD: &str = "Correct-horse-1";

/// A broker with pages. alice has a password and an MFA device, bob only a password, admin may do anything.
async fn broker() -> Broker {
    broker_with(|_| {}).await
}

async fn broker_with(change: impl FnOnce(&mut Settings)) -> Broker {
    let mut settings = Settings::at("http://{address}");
    change(&mut settings);
    let broker = Broker::start_in(stored_home().await, |config| {
        in_the_store(config);
        config.sign_in = Some(settings);
    })
    .await;
    for name in ["alice", "bob", "admin"] {
        let profile = [("UserName", name), ("Password", PASSWORD)];
        admin(&broker, "CreateLoginProfile", &profile).await;
    }
    broker
}

async fn admin(broker: &Broker, action: &str, parameters: &[(&str, &str)]) -> Value {
    let done = broker.client(&user(ADMIN)).iam(action, parameters).await;
    done.unwrap_or_else(|error| panic!("{action}: {error}"))
}

/// A browser: it keeps cookies, and sends forms with the tokens that it was given.
struct Browser<'a> {
    broker: &'a Broker,
    cookies: Vec<(String, String)>,
    page: Answer,
}

impl<'a> Browser<'a> {
    async fn open(broker: &'a Broker, path: &str) -> Self {
        let page = broker
            .send("GET", "/signed-out", host(broker), vec![])
            .await;
        let mut browser = Self {
            broker,
            cookies: Vec::new(),
            page,
        };
        browser.get(path).await;
        browser
    }

    /// Signs bob in.
    async fn of_bob(broker: &'a Broker) -> Self {
        let mut browser = Self::open(broker, "/sign-in").await;
        browser.sign_in("bob", PASSWORD, "").await;
        assert_eq!(browser.page.status, 200, "{}", browser.page.body);
        browser
    }

    /// A browser in which bob has signed in before.
    async fn of_bob_before(broker: &'a Broker, cookies: &[(String, String)]) -> Self {
        let mut browser = Self::open(broker, "/signed-out").await;
        let known = cookies
            .iter()
            .filter(|(name, _)| name == "__Host-brevet-known");
        browser.cookies = known.cloned().collect();
        assert_eq!(browser.cookies.len(), 1);
        browser.get("/sign-in").await;
        browser
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = host(self.broker);
        if !self.cookies.is_empty() {
            let pairs: Vec<String> = self
                .cookies
                .iter()
                .map(|(n, v)| format!("{n}={v}"))
                .collect();
            headers.insert("cookie", HeaderValue::from_str(&pairs.join("; ")).unwrap());
        }
        headers
    }

    fn cookie(&self, name: &str) -> Option<&str> {
        let found = self.cookies.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    fn keep_cookies(&mut self) {
        for set in self.page.headers.get_all("set-cookie") {
            let text = set.to_str().unwrap();
            for attribute in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
                assert!(text.contains(attribute), "{text}");
            }
            let (name, value) = text.split(';').next().unwrap().split_once('=').unwrap();
            assert!(name.starts_with("__Host-"), "{text}");
            self.cookies.retain(|(n, _)| n != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    async fn get(&mut self, path: &str) -> u16 {
        self.page = self.broker.send("GET", path, self.headers(), vec![]).await;
        self.keep_cookies();
        self.page.status
    }

    /// Sends a form as it is, and stays where the answer leads.
    async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> u16 {
        let mut headers = self.headers();
        headers.extend(form_headers());
        let body = encode(form).into_bytes();
        self.page = self.broker.send("POST", path, headers, body).await;
        self.keep_cookies();
        self.page.status
    }

    /// Fills in the form with this address on the current page, sends it and follows where it leads.
    async fn submit(&mut self, action: &str, fields: &[(&str, &str)]) -> u16 {
        let mut all = self.hidden(action);
        all.extend(
            fields
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned())),
        );
        let all: Vec<(&str, &str)> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let mut status = self.post(action, &all).await;
        for _ in 0..5 {
            let Some(to) = self.location().filter(|to| to.starts_with('/')) else {
                break;
            };
            status = self.get(&to).await;
        }
        status
    }

    fn location(&self) -> Option<String> {
        let location = self.page.headers.get("location");
        location.map(|location| location.to_str().unwrap().to_owned())
    }

    /// The hidden fields of the form with this address.
    fn hidden(&self, action: &str) -> Vec<(String, String)> {
        let form = self.form(action);
        let inputs = form.split("<input type=\"hidden\" ").skip(1);
        let part = |text: &str, name: &str| {
            let from = text.find(&format!("{name}=\"")).unwrap() + name.len() + 2;
            unescaped(text[from..].split('"').next().unwrap())
        };
        inputs
            .map(|input| (part(input, "name"), part(input, "value")))
            .collect()
    }

    fn form(&self, action: &str) -> &str {
        let begin = format!("method=\"post\" action=\"{action}\"");
        let at = self.page.body.find(&begin);
        let at = at.unwrap_or_else(|| panic!("no form {action}: {}", self.page.body));
        self.page.body[at..].split("</form>").next().unwrap()
    }

    /// The value of the first button with this name.
    fn value_of(&self, name: &str) -> String {
        let begin = format!("name=\"{name}\" value=\"");
        let value = self.page.body.split(&begin).nth(1).unwrap();
        unescaped(value.split('"').next().unwrap())
    }

    fn token(&self, action: &str) -> String {
        let hidden = self.hidden(action);
        hidden
            .into_iter()
            .find(|(name, _)| name == "csrf")
            .unwrap()
            .1
    }

    async fn sign_in(&mut self, name: &str, password: &str, code: &str) -> u16 {
        let fields = [
            ("account", "111122223333"),
            ("user_name", name),
            ("password", password),
            ("code", code),
        ];
        self.submit("/sign-in", &fields).await
    }

    fn shows(&self, text: &str) -> bool {
        self.page.body.contains(text)
    }
}

fn unescaped(text: &str) -> String {
    text.replace("&#38;", "&").replace("&amp;", "&")
}

fn host(broker: &Broker) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let host = HeaderValue::from_str(&broker.address.to_string()).unwrap();
    headers.insert("host", host);
    headers
}

/// The session that the lines for bash on a page hold.
fn pasted(page: &str) -> Keys {
    let value = |name: &str| {
        let from = page.find(&format!("export {name}=")).unwrap();
        let line = page[from..].lines().next().unwrap();
        let value = line.split_once('=').unwrap().1;
        value
            .replace("&#34;", "")
            .replace("&quot;", "")
            .replace('"', "")
            .replace("</pre>", "")
    };
    Keys {
        id: value("AWS_ACCESS_KEY_ID"),
        secret: value("AWS_SECRET_ACCESS_KEY"),
        token: Some(value("AWS_SESSION_TOKEN")),
    }
}

#[tokio::test]
async fn a_user_signs_in_picks_a_role_and_ends_the_session() {
    let broker = broker().await;
    // The front door of a browser leads to the sign-in.
    let mut headers = host(&broker);
    headers.insert("accept", HeaderValue::from_static("text/html,*/*"));
    let door = broker.send("GET", "/", headers, vec![]).await;
    assert_eq!(
        (door.status, &door.headers["location"]),
        (303, &HeaderValue::from_static("/portal"))
    );
    let mut alice = Browser::open(&broker, "/portal").await;
    assert_eq!(alice.location().as_deref(), Some("/sign-in"));
    alice.get("/sign-in").await;
    let before = alice.cookie("__Host-brevet-pre").unwrap().to_owned();
    // The password alone leads to the code, not to the pages.
    assert_eq!(alice.sign_in("alice", PASSWORD, "").await, 200);
    assert!(alice.shows("Enter your code") && alice.cookie("__Host-brevet").is_none());
    assert_eq!(
        alice.submit("/sign-in/code", &[("code", "000000")]).await,
        400
    );
    assert!(alice.shows("role=\"alert\"") && alice.cookie("__Host-brevet").is_none());
    assert_eq!(
        alice
            .submit("/sign-in/code", &[("code", &code(&broker, 0))])
            .await,
        200
    );
    assert!(
        alice.shows("My roles") && alice.shows(">Open</bdi>"),
        "{}",
        alice.page.body
    );
    assert!(!alice.shows(">Closed</bdi>") && !alice.shows(">Partner</bdi>"));
    assert_eq!(alice.cookie("__Host-brevet-pre"), None);
    assert_ne!(alice.cookie("__Host-brevet").unwrap(), before);
    // The role's credentials work until the session is ended in the page.
    assert_eq!(
        alice.submit("/portal/credentials", &[("role", OPEN)]).await,
        200
    );
    let keys = pasted(&alice.page.body);
    assert_eq!(broker.who(&keys).await, "ok");
    // The lines for a file lead to this broker, like those for a shell.
    let endpoint = format!("\nendpoint_url = http://{}</pre>", broker.address);
    assert!(alice.shows(&endpoint), "{}", alice.page.body);
    alice.get("/portal/sessions").await;
    assert!(alice.shows("<bdi>Open</bdi>") && alice.shows("End session"));
    let session = [("session", alice.value_of("session"))];
    let session = session
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    assert_eq!(alice.submit("/portal/sessions", &session).await, 200);
    assert!(alice.shows("The session has ended"));
    assert_ne!(broker.who(&keys).await, "ok");
    // A second one ends by signing out, with the sign-in itself.
    alice.get("/portal").await;
    alice.submit("/portal/credentials", &[("role", OPEN)]).await;
    let keys = pasted(&alice.page.body);
    let stolen = alice.cookies.clone();
    assert_eq!(alice.submit("/sign-out", &[]).await, 200);
    assert!(alice.shows("You are signed out") && alice.cookie("__Host-brevet").is_none());
    assert_ne!(broker.who(&keys).await, "ok");
    alice.cookies = stolen;
    assert_eq!(alice.get("/portal").await, 303);
    let audit = broker.into_audit().await;
    let logins: Vec<&Value> = audit
        .iter()
        .filter(|r| r["eventName"] == "ConsoleLogin")
        .collect();
    let outcomes: Vec<&Value> = logins
        .iter()
        .map(|r| &r["responseElements"]["ConsoleLogin"])
        .collect();
    assert!(
        outcomes.len() == 2 && outcomes.iter().any(|o| *o == "Failure"),
        "{outcomes:?}"
    );
    assert!(audit.iter().any(|r| r["eventName"] == "Logout"));
    let ended = audit.iter().find(|r| r["eventName"] == "EndSession");
    assert_eq!(ended.unwrap()["responseElements"]["EndSession"], "Success");
    assert!(!audit.iter().any(|r| r.to_string().contains(PASSWORD)));
}

#[tokio::test]
async fn a_search_finds_every_role_on_one_of_its_pages() {
    let broker = broker().await;
    let trust = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"AWS": "arn:aws:iam::111122223333:user/bob"}}]}"#;
    for number in 0..103 {
        let name = format!("Found-{number:03}");
        let role = [("RoleName", &*name), ("AssumeRolePolicyDocument", trust)];
        admin(&broker, "CreateRole", &role).await;
    }
    let mut bob = Browser::of_bob(&broker).await;
    bob.get("/portal?q=found").await;
    assert!(bob.shows("100 roles on this page. More roles may match"));
    assert!(bob.shows(">Found-099</bdi>") && !bob.shows(">Found-100</bdi>"));
    let page = unescaped(&bob.page.body);
    let href = page.split("<a rel=\"next\" href=\"").nth(1).unwrap();
    let next = href.split('"').next().unwrap();
    assert!(next.starts_with("/portal?q=found&from="), "{next}");
    bob.get(next).await;
    assert!(bob.shows("3 roles on this page<") && bob.shows(">Found-102</bdi>"));
    assert!(!bob.shows("rel=\"next\"") && bob.shows("href=\"/portal?q=found\""));
    // A search that has found all says so.
    bob.get("/portal?q=found-10").await;
    assert!(bob.shows(">3 roles<"), "{}", bob.page.body);
    // Eleven words.
    let long = "a+".repeat(11);
    assert_eq!(bob.get(&format!("/portal?q={long}")).await, 400);
    assert!(bob.shows("The search is too long"), "{}", bob.page.body);
}

#[tokio::test]
async fn a_person_ends_another_of_its_own_sign_ins() {
    let broker = broker().await;
    let of_admin = async || {
        let mut browser = Browser::open(&broker, "/sign-in").await;
        browser.sign_in("admin", PASSWORD, "").await;
        browser
    };
    let mut here = of_admin().await;
    here.get("/portal/sessions").await;
    assert!(!here.shows("Your other sign-ins"), "{}", here.page.body);
    let mut there = of_admin().await;
    there.submit("/portal/credentials", &[("role", OPEN)]).await;
    let keys = pasted(&there.page.body);
    here.get("/portal/sessions").await;
    assert!(here.shows("Your other sign-ins"), "{}", here.page.body);
    let (token, id) = (here.token("/portal/sessions"), here.value_of("sign_in"));
    let form = [("csrf", token.as_str()), ("sign_in", id.as_str())];
    // The id is of no use to others.
    let mut bob = Browser::of_bob(&broker).await;
    let _again = Browser::of_bob(&broker).await;
    bob.get("/portal/sessions").await;
    let token = bob.token("/portal/sessions");
    let foreign = [("csrf", token.as_str()), ("sign_in", id.as_str())];
    assert_eq!(bob.post("/portal/sessions", &foreign).await, 404);
    assert_eq!(broker.who(&keys).await, "ok");
    assert_eq!(here.post("/portal/sessions", &form).await, 200);
    assert!(here.shows("The sign-in and all its sessions") && !here.shows("Your other sign-ins"));
    assert_ne!(broker.who(&keys).await, "ok");
    assert_eq!(there.get("/portal").await, 303);
    // Once more, which is no success.
    assert_eq!(here.post("/portal/sessions", &form).await, 404);
    assert!(here.shows("has ended already"));
    let audit = broker.into_audit().await;
    let ended = audit.iter().filter(|r| r["eventName"] == "Logout");
    let named = |r: &&Value| r["requestParameters"]["signIn"] == id.as_str();
    assert_eq!(ended.filter(named).count(), 1);
}

#[tokio::test]
async fn unknown_wrong_and_without_a_password_are_refused_alike_until_the_budget_is_used_up() {
    let broker = broker().await;
    let before = Browser::of_bob(&broker).await.cookies;
    let mut texts = Vec::new();
    for (name, password) in [
        ("bob", "wrong"),
        ("nobody", "wrong"),
        ("bounded", PASSWORD),
        ("bob", ""),
    ] {
        let mut browser = Browser::open(&broker, "/sign-in").await;
        assert_eq!(browser.sign_in(name, password, "").await, 400);
        assert!(
            browser.shows(&format!("value=\"{name}\"")),
            "the name is kept"
        );
        assert!(!browser.shows("value=\"wrong\""), "the password is not");
        let alert = browser.page.body.split("id=\"alert\">").nth(1).unwrap();
        texts.push(alert.split("</div>").next().unwrap().to_owned());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    // Only failures count: good passwords in between change nothing.
    let mut browser = Browser::open(&broker, "/sign-in").await;
    for _ in 0..8 {
        assert_eq!(browser.sign_in("bob", "wrong", "").await, 400);
    }
    let status = browser.sign_in("bob", "wrong", "").await;
    assert_eq!(status, 429);
    assert_eq!(browser.page.headers["retry-after"], "300");
    assert_eq!(browser.sign_in("bob", PASSWORD, "").await, 429);
    // Somebody else is not concerned, nor is the user where it has signed in before, and after a while
    // nowhere.
    let mut known = Browser::of_bob_before(&broker, &before).await;
    assert_eq!(known.sign_in("bob", PASSWORD, "").await, 200);
    known
        .cookies
        .retain(|(name, _)| name == "__Host-brevet-known");
    known.get("/sign-in").await;
    assert_eq!(
        known.sign_in("admin", "wrong", "").await,
        400,
        "it is known for bob only"
    );
    assert_eq!(browser.sign_in("admin", PASSWORD, "").await, 200);
    broker.clock.advance(Duration::from_secs(301));
    let mut browser = Browser::open(&broker, "/sign-in").await;
    assert_eq!(browser.sign_in("bob", PASSWORD, "").await, 200);
}

#[tokio::test]
async fn a_password_that_must_be_changed_leads_to_its_page_and_nowhere_else() {
    let broker = broker().await;
    let must = [("UserName", "bob"), ("PasswordResetRequired", "true")];
    admin(&broker, "UpdateLoginProfile", &must).await;
    let may = [
        ("AllowUsersToChangePassword", "true"),
        ("MinimumPasswordLength", "10"),
    ];
    admin(&broker, "UpdateAccountPasswordPolicy", &may).await;
    let mut bob = Browser::open(&broker, "/sign-in?to=%2Fportal%2Fsessions").await;
    assert_eq!(bob.sign_in("bob", PASSWORD, "").await, 200);
    assert!(bob.shows("Choose a new password") && bob.shows("An administrator asks you"));
    for path in [
        "/portal",
        "/portal/sessions",
        "/portal/keys",
        "/portal/mfa",
        "/device",
    ] {
        assert_eq!(bob.get(path).await, 303, "{path}");
        assert!(
            bob.location().unwrap().starts_with("/portal/password"),
            "{path}"
        );
    }
    bob.get("/portal/password?to=%2Fportal%2Fsessions").await;
    let token = bob.token("/portal/password");
    let form = [("csrf", token.as_str()), ("role", OPEN)];
    assert_eq!(bob.post("/portal/credentials", &form).await, 403);
    bob.get("/portal/password?to=%2Fportal%2Fsessions").await;
    let change = |old, new| [("old_password", old), ("new_password", new)];
    assert_eq!(
        bob.submit("/portal/password", &change(PASSWORD, "short"))
            .await,
        400
    );
    assert!(bob.shows("minimum length of 10"), "{}", bob.page.body);
    assert_eq!(
        bob.submit("/portal/password", &change("wrong", "Another-horse-2"))
            .await,
        400
    );
    assert_eq!(
        bob.submit("/portal/password", &change(PASSWORD, "Another-horse-2"))
            .await,
        200
    );
    assert!(bob.shows("My sessions"), "{}", bob.page.body);
    let mut again = Browser::open(&broker, "/sign-in").await;
    assert_eq!(again.sign_in("bob", PASSWORD, "").await, 400);
    assert_eq!(again.sign_in("bob", "Another-horse-2", "").await, 200);
    // A change ends the user's other sign-ins, and not the one that made it.
    bob.get("/portal/password").await;
    assert_eq!(
        bob.submit(
            "/portal/password",
            &change("Another-horse-2", "Third-horse-33")
        )
        .await,
        200
    );
    assert_eq!(bob.get("/portal").await, 200);
    assert_eq!(again.get("/portal").await, 303);
}

#[tokio::test]
async fn a_user_enrols_a_device_and_needs_a_fresh_code_afterwards() {
    let broker = broker().await;
    let mut boss = Browser::open(&broker, "/sign-in").await;
    boss.sign_in("admin", PASSWORD, "").await;
    boss.get("/portal/mfa").await;
    assert!(boss.shows("You have no MFA device"));
    // Five minutes after the password, it is asked for again.
    boss.get("/portal/mfa/add").await;
    assert!(!boss.shows("name=\"password\""));
    broker.clock.advance(Duration::from_secs(400));
    assert_eq!(
        boss.submit("/portal/mfa/add", &[]).await,
        400,
        "{}",
        boss.page.body
    );
    boss.get("/portal/mfa/add").await;
    assert!(boss.shows("name=\"password\""));
    assert_eq!(
        boss.submit("/portal/mfa/add", &[("password", "wrong")])
            .await,
        400
    );
    let before = boss.cookie("__Host-brevet").unwrap().to_owned();
    assert_eq!(
        boss.submit("/portal/mfa/add", &[("password", PASSWORD)])
            .await,
        200
    );
    assert_ne!(
        boss.cookie("__Host-brevet").unwrap(),
        before,
        "a new factor has a new cookie"
    );
    assert!(boss.shows("<svg ") && boss.shows("fill=\"#000\""));
    let seed = boss
        .page
        .body
        .split("<code translate=\"no\">")
        .nth(1)
        .unwrap();
    let seed = seed.split('<').next().unwrap().to_owned();
    let at = |steps: i64| {
        let now = brevet::base::clock::Clock::now(&*broker.clock).seconds();
        let sha1 = ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
        crate::mfa::code_of(&seed, sha1, 6, now + 30 * steps)
    };
    let wrong = [("code1", "000000"), ("code2", "111111")];
    assert_eq!(boss.submit("/portal/mfa/enrol", &wrong).await, 400);
    let (one, two) = (at(-1), at(0));
    assert_eq!(
        boss.submit("/portal/mfa/enrol", &[("code1", &one), ("code2", &two)])
            .await,
        200
    );
    assert!(
        boss.shows("arn:aws:iam::111122223333:mfa/admin"),
        "{}",
        boss.page.body
    );
    assert!(boss.shows("The device is added"));
    // From now on a sign-in and each change need a code, which is good once.
    let mut again = Browser::open(&broker, "/sign-in").await;
    assert_eq!(again.sign_in("admin", PASSWORD, "").await, 200);
    assert!(again.shows("Enter your code"));
    boss.get("/portal/keys/make").await;
    assert_eq!(
        boss.submit("/portal/keys/make", &[("code", "000000")])
            .await,
        400
    );
    assert_eq!(
        boss.submit("/portal/keys/make", &[("code", &two)]).await,
        400,
        "spent"
    );
    let made = boss.submit("/portal/keys/make", &[("code", &at(1))]).await;
    assert_eq!(made, 200, "{}", boss.page.body);
    let id = boss.page.body.split("AKIA").nth(1).unwrap();
    let id = format!("AKIA{}", &id[..16]);
    boss.get("/portal/keys").await;
    assert!(boss.shows(&id) && boss.shows("active"));
    for (path, said) in [
        ("switch-off", "The key is switched off"),
        ("switch-on", "The key is switched on"),
        ("delete", "The key is deleted"),
    ] {
        broker.clock.advance(Duration::from_secs(60));
        let path = format!("/portal/keys/{path}");
        boss.get(&format!("{path}?key={id}")).await;
        assert_eq!(boss.submit(&path, &[("code", &at(0))]).await, 200);
        assert!(boss.shows(said), "{said}: {}", boss.page.body);
    }
    assert!(!boss.shows(&id));
    broker.clock.advance(Duration::from_secs(60));
    let device = "device=arn%3Aaws%3Aiam%3A%3A111122223333%3Amfa%2Fadmin";
    boss.get(&format!("/portal/mfa/remove?{device}")).await;
    assert_eq!(
        boss.submit("/portal/mfa/remove", &[("code", &at(0))]).await,
        200
    );
    assert!(boss.shows("The device is removed") && boss.shows("You have no MFA device"));
}

#[tokio::test]
async fn who_may_nothing_is_told_so_and_can_sign_out() {
    let broker = broker().await;
    let mut admins = Browser::open(&broker, "/sign-in").await;
    let profile = [("UserName", "gone"), ("Password", PASSWORD)];
    admin(&broker, "CreateLoginProfile", &profile).await;
    assert_eq!(admins.sign_in("gone", PASSWORD, "").await, 200);
    assert!(
        admins.shows("there is no role that you may use"),
        "{}",
        admins.page.body
    );
    assert!(admins.shows("arn:aws:iam::111122223333:user/gone") && admins.shows("Sign out"));
    // What its policies do not allow is said in the page.
    admins.get("/portal/keys").await;
    assert!(
        admins.shows("not authorized to perform: iam:ListAccessKeys"),
        "{}",
        admins.page.body
    );
    // A role that is not his is named.
    admins.get("/portal").await;
    let csrf = admins.token("/sign-out");
    assert_eq!(
        admins
            .post("/portal/credentials", &[("csrf", &csrf), ("role", OPEN)])
            .await,
        403
    );
    let mut bob = Browser::of_bob(&broker).await;
    let refused = bob.submit("/portal/credentials", &[("role", CLOSED)]).await;
    assert_eq!(refused, 403);
    assert!(
        bob.shows("You have no access to the role Closed in the account 111122223333."),
        "{}",
        bob.page.body
    );
}

/// All forms, each with fields that would change something.
fn forms() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    vec![
        ("/sign-out", vec![]),
        ("/portal/credentials", vec![("role", OPEN)]),
        (
            "/portal/sessions",
            vec![("session", "000102030405060708090a0b0c0d0e0f")],
        ),
        ("/portal/sessions/end-all", vec![]),
        (
            "/portal/password",
            vec![
                ("old_password", PASSWORD),
                ("new_password", "Another-horse-2"),
            ],
        ),
        ("/portal/mfa/add", vec![]),
        ("/portal/mfa/remove", vec![("device", "x")]),
        ("/portal/mfa/enrol", vec![("pending", "x")]),
        ("/portal/keys/make", vec![]),
        (
            "/portal/keys/switch-off",
            vec![("key", "AKIATESTBOB000000001")],
        ),
        (
            "/portal/keys/switch-on",
            vec![("key", "AKIATESTBOB000000001")],
        ),
        ("/portal/keys/delete", vec![("key", "AKIATESTBOB000000001")]),
        ("/device", vec![("code", "ABCD-EFGH")]),
        (
            "/device/decide",
            vec![("code", "ABCD-EFGH"), ("decision", "allow")],
        ),
        (
            "/authorize",
            vec![("request", "client_id=x"), ("decision", "allow")],
        ),
        (
            "/oauth2/authorize",
            vec![("request", "client_id=x"), ("decision", "allow")],
        ),
    ]
}

#[tokio::test]
async fn oi_08_no_form_is_accepted_from_elsewhere() {
    let broker = broker().await;
    let sequence = || broker.running.as_ref().unwrap().broker.feed.sequence();
    let mut bob = Browser::of_bob(&broker).await;
    let begun = sequence();
    let of_sign_out = bob.token("/sign-out");
    for (path, fields) in forms() {
        // Without a token, with one of another form, and with one that was made up.
        let made_up = "A".repeat(43);
        for token in [None, Some(of_sign_out.as_str()), Some(&made_up), Some("")] {
            if path == "/sign-out" && token == Some(of_sign_out.as_str()) {
                continue;
            }
            let mut form = fields.clone();
            form.extend(token.map(|token| ("csrf", token)));
            assert_eq!(bob.post(path, &form).await, 403, "{path} {token:?}");
            assert!(
                bob.shows("This form is out of date"),
                "{path}: {}",
                bob.page.body
            );
        }
        // With the right token, but from another site, as far as the browser says.
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
        ] {
            let mut headers = bob.headers();
            headers.extend(form_headers());
            headers.insert(name, HeaderValue::from_static(value));
            let form = [("csrf", of_sign_out.as_str())];
            let answer = broker
                .send("POST", path, headers, encode(&form).into_bytes())
                .await;
            assert_eq!(answer.status, 403, "{path} {name}: {value}");
        }
        // In another format, which other sites can send without asking the browser.
        for kind in [
            "text/plain",
            "multipart/form-data; boundary=x",
            "application/json",
            "",
        ] {
            let mut headers = bob.headers();
            headers.insert("content-type", HeaderValue::from_static(kind));
            let form = encode(&[("csrf", of_sign_out.as_str())]).into_bytes();
            let answer = broker.send("POST", path, headers, form).await;
            assert_eq!(answer.status, 415, "{path} {kind}");
        }
        // Without a cookie, as a browser sends it for another site.
        let mut stranger = Browser::open(&broker, "/signed-out").await;
        assert_eq!(
            stranger.post(path, &[("csrf", &of_sign_out)]).await,
            403,
            "{path}"
        );
    }
    assert_eq!(sequence(), begun, "something was changed");
    assert_eq!(bob.get("/portal").await, 200, "the sign-in was not ended");
    // A GET changes nothing, signing out included, and no method takes the place of another.
    for (path, _) in forms() {
        let page = bob.get(path).await;
        assert!([200, 303, 400, 404, 405].contains(&page), "{path} {page}");
        for method in ["PUT", "DELETE", "PATCH"] {
            let answer = broker.send(method, path, bob.headers(), vec![]).await;
            assert_eq!(answer.status, 405, "{method} {path}");
        }
        let mut headers = bob.headers();
        headers.insert("x-http-method-override", HeaderValue::from_static("POST"));
        let csrf = format!("{path}?csrf={of_sign_out}&_method=POST");
        broker.send("GET", &csrf, headers, vec![]).await;
    }
    assert_eq!(bob.get("/sign-out").await, 405);
    assert_eq!(bob.page.headers["allow"], "POST");
    assert_eq!(sequence(), begun, "a GET changed something");
    assert_eq!(bob.get("/portal").await, 200);
}

#[tokio::test]
async fn oi_08_nobody_is_signed_in_by_somebody_elses_form_or_cookie() {
    let broker = broker().await;
    let fields = [
        ("account", "111122223333"),
        ("user_name", "bob"),
        ("password", PASSWORD),
    ];
    let attackers = Browser::open(&broker, "/sign-in").await;
    let token = attackers.token("/sign-in");
    let mut form = fields.to_vec();
    form.push(("csrf", &token));
    // Login CSRF: the victim's browser sends the attacker's form, without the attacker's cookie.
    let mut victim = Browser::open(&broker, "/signed-out").await;
    assert_eq!(victim.post("/sign-in", &form).await, 403);
    victim.get("/sign-in").await;
    assert_eq!(
        victim.post("/sign-in", &form).await,
        403,
        "a cookie of its own"
    );
    assert_eq!(victim.cookie("__Host-brevet"), None);
    // Fixation: whatever value a browser brings along, a sign-in has a new one.
    let planted = "A".repeat(43);
    let mut victim = Browser::open(&broker, "/sign-in").await;
    victim
        .cookies
        .push(("__Host-brevet".to_owned(), planted.clone()));
    assert_eq!(victim.sign_in("bob", PASSWORD, "").await, 200);
    assert_ne!(victim.cookie("__Host-brevet").unwrap(), planted);
    let mut attacker = Browser::open(&broker, "/signed-out").await;
    attacker.cookies = vec![("__Host-brevet".to_owned(), planted)];
    assert_eq!(attacker.get("/portal").await, 303);
    // The token of before the sign-in is of no use after it.
    let mut bob = Browser::open(&broker, "/sign-in").await;
    let before = (bob.cookies.clone(), bob.token("/sign-in"));
    assert_eq!(bob.sign_in("bob", PASSWORD, "").await, 200);
    let mut form = fields.to_vec();
    form.push(("csrf", &before.1));
    assert_eq!(bob.post("/sign-in", &form).await, 403);
    // Tossed cookies: two of a name are refused, wherever they come from.
    let one = bob.cookie("__Host-brevet").unwrap().to_owned();
    for second in [one.as_str(), "x", ""] {
        let mut headers = host(&broker);
        let line = format!("__Host-brevet={one}; __Host-brevet={second}");
        headers.insert("cookie", HeaderValue::from_str(&line).unwrap());
        let answer = broker.send("GET", "/portal", headers, vec![]).await;
        assert_eq!(answer.status, 400, "{second}");
        assert!(answer.body.contains("two cookies with the same name"));
    }
    let mut headers = host(&broker);
    headers.insert("cookie", HeaderValue::from_bytes(b"a=\xff").unwrap());
    let answer = broker.send("GET", "/portal", headers, vec![]).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("cookies that are not plain text"));
}

#[tokio::test]
async fn oi_08_a_sign_in_leads_to_own_pages_only() {
    let broker = broker().await;
    let spellings = [
        "https://evil.example/",
        "http://evil.example",
        "//evil.example",
        "///evil.example",
        "////evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "\\/evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        " //evil.example",
        "/.//evil.example",
        "/portal//evil.example",
        "/portal/..//evil.example",
        "/portal/../..//evil.example",
        "/%2f/evil.example",
        "/%5cevil.example",
        "%2f%2fevil.example",
        "/portal%2f..%2f..%2f/evil.example",
        "https:evil.example",
        "https:/evil.example",
        "https:\\\\evil.example",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        "@evil.example",
        ".evil.example",
        "evil.example",
        "/portal@evil.example",
        "/portal\\@evil.example",
        "/portal#//evil.example",
        "/portal?x\r\nLocation: https://evil.example",
    ];
    let mut bob = Browser::of_bob(&broker).await;
    for spelling in spellings {
        let encoded = encode(&[("to", spelling)]);
        // Somebody who is signed in goes on at once.
        assert_eq!(
            bob.get(&format!("/sign-in?{encoded}")).await,
            303,
            "{spelling:?}"
        );
        assert_eq!(bob.location().as_deref(), Some("/portal"), "{spelling:?}");
        let stranger = Browser::open(&broker, &format!("/sign-in?{encoded}")).await;
        assert_eq!(stranger.page.status, 200);
        assert!(!stranger.shows("evil.example"), "{spelling:?}");
    }
    // The same in the form, which a browser can change.
    let mut browser = Browser::open(&broker, "/sign-in").await;
    let token = browser.token("/sign-in");
    let form = [
        ("csrf", token.as_str()),
        ("to", "//evil.example"),
        ("account", ""),
        ("user_name", "bob"),
        ("password", PASSWORD),
    ];
    assert_eq!(browser.post("/sign-in", &form).await, 303);
    assert_eq!(browser.location().as_deref(), Some("/portal"));
    // An own page is reached, with its query.
    let mut browser = Browser::open(&broker, "/device?user_code=ABCD-EFGH").await;
    let to = browser.location().unwrap();
    assert_eq!(to, "/sign-in?to=%2Fdevice%3Fuser%5Fcode%3DABCD%2DEFGH");
    browser.get(&to).await;
    browser.sign_in("bob", PASSWORD, "").await;
    assert!(browser.shows("Connect a device"), "{}", browser.page.body);
}

#[tokio::test]
async fn oi_08_pages_cannot_be_framed_cached_or_reached_under_another_name() {
    let broker = broker().await;
    let mut bob = Browser::of_bob(&broker).await;
    let mut largest = ("", 0);
    for path in [
        "/portal",
        "/portal/sessions",
        "/portal/sessions/end-all",
        "/portal/mfa",
        "/portal/mfa/add",
        "/portal/keys",
        "/portal/keys/make",
        "/portal/password",
        "/portal/guide",
        "/device",
        "/signed-out",
        "/portal/nothing",
        "/sign-out",
    ] {
        bob.get(path).await;
        let headers = &bob.page.headers;
        let policy = headers["content-security-policy"].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "style-src 'self'",
            "script-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(headers[name], value, "{path}");
        }
        assert!(!headers.contains_key("access-control-allow-origin"));
        if bob.page.body.len() > largest.1 {
            largest = (path, bob.page.body.len());
        }
        // Nothing that a policy without `unsafe-inline` forbids, and nothing from elsewhere.
        let html = &bob.page.body;
        for bad in [" style=", "<style", "javascript:", " onclick=", "<script>"] {
            assert!(!html.contains(bad), "{path}: {bad}");
        }
        assert!(
            !html.contains("src=\"http") && !html.contains("href=\"http"),
            "{path}"
        );
    }
    assert!(largest.1 < 30_000, "{largest:?}");
    // The assets that a page names are there, for ever.
    bob.get("/portal").await;
    let style = bob
        .page
        .body
        .split("<link rel=\"stylesheet\" href=\"")
        .nth(1)
        .unwrap();
    let style = style.split('"').next().unwrap().to_owned();
    assert_eq!(bob.get(&style).await, 200);
    assert!(
        bob.page.headers["cache-control"]
            .to_str()
            .unwrap()
            .contains("immutable")
    );
    assert_eq!(
        bob.get("/portal/assets/portal-0000000000000000.css").await,
        404
    );
    // Another name of the broker shows no page, and forwarded headers make none.
    for name in ["evil.example", "localhost", "127.0.0.1"] {
        let mut headers = bob.headers();
        headers.insert("host", HeaderValue::from_static(name));
        for path in ["/portal", "/sign-in", "/device", "/sign-out"] {
            let answer = broker.send("GET", path, headers.clone(), vec![]).await;
            assert_eq!(answer.status, 421, "{name} {path}");
            assert!(!answer.body.contains(name) || name == "127.0.0.1");
        }
    }
    let mut headers = bob.headers();
    headers.insert("x-forwarded-host", HeaderValue::from_static("evil.example"));
    let answer = broker.send("GET", "/portal", headers, vec![]).await;
    assert!(answer.status == 200 && !answer.body.contains("evil.example"));
}

#[tokio::test]
async fn oi_08_no_foreign_text_becomes_markup() {
    let broker = broker().await;
    const EVIL: &str = "\"><img src=x onerror=alert(1)><script>alert(1)</script>&'`";
    let is_plain = |page: &str| {
        assert!(
            !page.contains("<img src=x") && !page.contains("<script>"),
            "{page}"
        );
    };
    // The names of a sign-in that fails, and the address of a search.
    let mut browser = Browser::open(&broker, "/sign-in").await;
    for (account, name) in [(EVIL, "bob"), ("", EVIL)] {
        let fields = [("account", account), ("user_name", name), ("password", "x")];
        assert_eq!(browser.submit("/sign-in", &fields).await, 400);
        assert!(browser.shows("onerror"), "it is shown again");
        is_plain(&browser.page.body);
    }
    // The browser's own name.
    let mut bob = Browser::open(&broker, "/sign-in").await;
    let mut form = bob.hidden("/sign-in");
    form.extend(
        [("user_name", "bob"), ("password", PASSWORD)].map(|(n, v)| (n.to_owned(), v.to_owned())),
    );
    let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let mut headers = bob.headers();
    headers.extend(form_headers());
    headers.insert("user-agent", HeaderValue::from_static(EVIL));
    bob.page = broker
        .send("POST", "/sign-in", headers, encode(&form).into_bytes())
        .await;
    bob.keep_cookies();
    bob.get("/portal/sessions").await;
    assert!(bob.shows("onerror"));
    is_plain(&bob.page.body);
    let query = encode(&[("q", EVIL)]);
    bob.get(&format!("/portal?{query}")).await;
    assert!(bob.shows("onerror"));
    is_plain(&bob.page.body);
    for (path, name) in [
        ("/portal/keys/delete", "key"),
        ("/portal/mfa/remove", "device"),
        ("/portal/guide", "role"),
        ("/device", "user_code"),
        ("/portal/keys", "done"),
    ] {
        let query = encode(&[(name, EVIL)]);
        bob.get(&format!("{path}?{query}")).await;
        is_plain(&bob.page.body);
    }
    bob.get("/device").await;
    assert_eq!(bob.submit("/device", &[("code", EVIL)]).await, 400);
    is_plain(&bob.page.body);
    bob.get("/portal").await;
    let refused = bob.submit("/portal/credentials", &[("role", EVIL)]).await;
    assert!((400..404).contains(&refused), "{refused}");
    is_plain(&bob.page.body);
    // A parameter twice has two meanings.
    assert_eq!(bob.get("/portal?q=a&q=b").await, 400);
}

#[tokio::test]
async fn oi_08_guessed_user_codes_run_into_a_budget() {
    let broker = broker().await;
    let mut bob = Browser::of_bob(&broker).await;
    bob.get("/device").await;
    let mut statuses = Vec::new();
    for n in 0..12 {
        let guess = format!("ABCD-EF{:02}", n + 22);
        statuses.push(bob.submit("/device", &[("code", &guess)]).await);
    }
    assert!(statuses.starts_with(&[400; 9]), "{statuses:?}");
    assert_eq!(statuses[11], 429);
    assert!(bob.page.headers.contains_key("retry-after"));
    // Links of others cannot use the budget up, and tell nothing.
    let mut alice = Browser::open(&broker, "/sign-in").await;
    alice.sign_in("admin", PASSWORD, "").await;
    for n in 0..12 {
        assert_eq!(
            alice
                .get(&format!("/device?user_code=ABCD-EF{:02}", n + 22))
                .await,
            200
        );
    }
    assert_eq!(alice.submit("/device", &[("code", "ABCD-EFGH")]).await, 400);
}

#[tokio::test]
async fn without_the_setting_the_paths_are_those_of_the_query_protocol() {
    let broker = Broker::start().await;
    for path in ["/portal", "/sign-in", "/device"] {
        let answer = broker.send("GET", path, host(&broker), vec![]).await;
        assert!(
            answer.body.contains("<ErrorResponse"),
            "{path}: {}",
            answer.body
        );
    }
    // Passwords can be switched off, and the device flow.
    let broker = broker_with(|settings| {
        settings.passwords = false;
        settings.device_flow = false;
    })
    .await;
    let mut browser = Browser::open(&broker, "/sign-in").await;
    assert!(
        browser.shows("No way to sign in is set up"),
        "{}",
        browser.page.body
    );
    let before = browser.cookie("__Host-brevet-pre").unwrap().to_owned();
    assert_eq!(before.len(), 43);
    assert_eq!(browser.get("/device").await, 303);
}
