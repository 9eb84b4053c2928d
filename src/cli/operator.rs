//! Finds out who runs a command: the account that the kernel reports, and the account that logged in.

use std::io::Read;

use crate::commands::Actor;

/// The login uid that the kernel reports for a process that no login started: `(uid_t) -1`.
const NO_LOGIN: u32 = u32::MAX;
/// The name of an account is cut to this many characters, the maximum that useradd(8) allows.
const MAX_NAME: usize = 32;
/// The maximum number of bytes of `/etc/passwd` that are read.
const MAX_ACCOUNTS: u64 = 1 << 20;

/// Describes who runs this command, for the change feed and the log of commands. `$SUDO_USER` is only a
/// claim, so it is recorded as one, beside the account that the kernel reports.
pub(super) fn operator() -> Actor {
    let login = std::fs::read_to_string("/proc/self/loginuid").ok();
    let account = Account {
        uid: rustix::process::getuid().as_raw(),
        effective: rustix::process::geteuid().as_raw(),
        login: login
            .and_then(|text| text.trim().parse().ok())
            .filter(|uid| *uid != NO_LOGIN),
        sudo_user: std::env::var("SUDO_USER")
            .ok()
            .filter(|name| !name.is_empty()),
    };
    Actor::operator(&account.describe(&accounts()))
}

struct Account {
    uid: u32,
    effective: u32,
    login: Option<u32>,
    sudo_user: Option<String>,
}

impl Account {
    /// Formats the account, as in `uid 0 (root), login uid 1000 (alice)`. `accounts` is the text of
    /// passwd(5).
    fn describe(&self, accounts: &str) -> String {
        let named = |uid: u32| match name_of(accounts, uid) {
            Some(name) => format!("uid {uid} ({name})"),
            None => format!("uid {uid}"),
        };
        let mut text = named(self.uid);
        if self.effective != self.uid {
            text.push_str(&format!(" acting as {}", named(self.effective)));
        }
        match self.login {
            Some(login) => text.push_str(&format!(", login {}", named(login))),
            None => text.push_str(", no login uid"),
        }
        if let Some(claim) = &self.sudo_user {
            text.push_str(&format!(", SUDO_USER says {}", clipped(claim)));
        }
        text
    }
}

/// Finds the name of an account in the text of passwd(5). Accounts of a directory service are not in
/// that file and are described by number.
fn name_of(accounts: &str, uid: u32) -> Option<String> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| clipped(name))
    })
}

fn clipped(name: &str) -> String {
    name.chars()
        .take(MAX_NAME)
        .flat_map(char::escape_debug)
        .collect()
}

fn accounts() -> String {
    let mut text = Vec::new();
    // If the file cannot be read, accounts are described by their numbers.
    let _ = std::fs::File::open("/etc/passwd")
        .and_then(|f| f.take(MAX_ACCOUNTS).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTS: &str =
        "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nbroken\n";

    #[test]
    fn the_kernels_account_counts_and_the_environment_is_a_claim() {
        let account = |uid, effective, login, sudo_user: Option<&str>| {
            Account {
                uid,
                effective,
                login,
                sudo_user: sudo_user.map(str::to_owned),
            }
            .describe(ACCOUNTS)
        };
        assert_eq!(
            account(0, 0, Some(1000), None),
            "uid 0 (root), login uid 1000 (alice)"
        );
        assert_eq!(
            account(1000, 0, None, None),
            "uid 1000 (alice) acting as uid 0 (root), no login uid"
        );
        assert_eq!(
            account(0, 0, Some(1000), Some("bob\n\u{1b}[1m")),
            "uid 0 (root), login uid 1000 (alice), SUDO_USER says bob\\n\\u{1b}[1m"
        );
        assert_eq!(account(7480, 7480, None, None), "uid 7480, no login uid");
    }

    #[test]
    fn this_process_has_an_account() {
        let name = operator().user_name.unwrap();
        assert!(
            name.starts_with(&format!("uid {}", rustix::process::getuid().as_raw())),
            "{name}"
        );
    }
}
