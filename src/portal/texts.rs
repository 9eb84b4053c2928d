//! The texts of the pages, by key. A translation is another value of [`Texts`].

use crate::sign_in::Method;

macro_rules! texts {
    ($($key:ident: $text:literal,)*) => {
        /// The texts of the pages in one language.
        pub(super) struct Texts {
            $(pub(super) $key: &'static str,)*
        }

        /// The English texts of the pages.
        pub(super) static ENGLISH: Texts = Texts { $($key: $text,)* };

        #[cfg(test)]
        const KEYS: &[(&str, &str)] = &[$((stringify!($key), $text),)*];
    };
}

texts! {
    lang: "en",
    dir: "ltr",
    // What all pages have.
    skip: "Skip to the content",
    pages: "Pages",
    error_prefix: "Error:",
    help: "Questions? Ask the administrators of this broker, and give them this id.",
    request_id: "Request ID:",
    sign_out: "Sign out",
    continue_: "Continue",
    cancel: "Cancel",
    copy: "Copy",
    copied: "Copied to the clipboard.",
    select_and_copy: "Your browser does not allow copying. The text is selected: press Ctrl+C or ⌘C.",
    since: "Since",
    until: "Until",
    from: "From",
    given_to: "Given to",
    account: "Account",
    back_to_roles: "Back to my roles",
    // Sign in.
    sign_in: "Sign in",
    sign_in_with: "Sign in with",
    sign_in_again: "Sign in again",
    or: "or with a user of this broker",
    account_hint: "The number or alias. Leave it empty if you do not know it.",
    user_name: "User name",
    password: "Password",
    reveal: "Show what I type",
    code: "Code",
    code_hint: "Only if you use an app that shows codes.",
    no_way_in: "No way to sign in is set up here. An administrator can add an identity provider or passwords to the configuration of the broker, under [sign_in].",
    to_continue: "To go on, sign in first.",
    not_signed_in_title: "You are not signed in",
    ask_sign_in_title: "Sign in as this person?",
    ask_sign_in: "wants to sign you in here. Continue only if this is you, and you have just chosen this broker \
        at the identity provider.",
    code_title: "Enter your code",
    code_of_app: "The code that your authenticator app shows now.",
    start_again: "Start again",
    new_password_title: "Choose a new password",
    reset_required: "An administrator asks you to choose a new password before you go on.",
    password_expired: "Your password has expired. Choose a new one to go on.",
    current_password: "Current password",
    new_password: "New password",
    signed_out: "You are signed out",
    signed_out_text: "All sessions of this sign-in have ended, too.",
    still_signed_in: "You may still be signed in at your identity provider and in other programs.",
    sign_out_at: "Sign out at",
    signed_out_cli: "The AWS CLI keeps your credentials for a while, although they no longer work. To remove them, \
        run:",
    // Refusals of a sign-in.
    wrong: "The account, the user name or the password is not correct.",
    wrong_code: "The code is not correct, or it was used before. Wait for the next one.",
    missing_code: "Enter the code that your authenticator app shows.",
    missing_password: "Enter your password.",
    too_many: "Too many requests or failed attempts came in a short time. Wait a few minutes and try again.",
    code_locked: "Too many codes were wrong. Wait 15 minutes and try again.",
    expired_for_good: "The password has expired, and only an administrator can set another one.",
    busy: "The broker has too much to do to check your password now. Try again in a few seconds.",
    took_too_long: "This sign-in cannot continue: it took longer than ten minutes, its code was sent twice, or your user \
        was changed. Enter your name and password again.",
    // My roles.
    my_roles: "My roles",
    signed_in_as: "Signed in as",
    search: "Search for a role or an account",
    find: "Find",
    found_here: "{} on this page. Press Enter to search all roles.",
    none_found: "No role matches. Try fewer letters, or the number of the account.",
    no_roles: "You are signed in, but there is no role that you may use.",
    no_roles_next: "You may use a role if its trust policy and your own policies let you assume it. Ask an \
        administrator to allow this, and send them the values below. Then load this page again.",
    more_roles: "More roles",
    previous: "Back to the first roles",
    more_may_match: "More roles may match: look at the next page, or add a word to the search.",
    next: "More roles",
    long_search_title: "The search is too long",
    long_search: "A search may have at most 128 bytes and 10 words.",
    long_search_next: "Search for a part of the name of the role or of the account.",
    roles_hint: "Choose a role to get its credentials. Roles are sorted by account, then by name.",
    // Credentials.
    credentials_of: "Credentials of",
    role_arn: "Role",
    session: "Caller",
    expires: "Valid until",
    paste_into: "Paste into",
    bash: "bash",
    bash_hint: "Also for zsh and sh. The variables are set only in the shell into which you paste them.",
    powershell: "PowerShell",
    powershell_hint: "The variables are set only in the window into which you paste them.",
    file: "credentials file",
    file_hint: "Add this to ~/.aws/credentials, and name the profile with --profile. The endpoint is for all services \
        that have no endpoint of their own, such as AWS_ENDPOINT_URL_S3.",
    refresh_title: "When they expire",
    refresh_text: "Choose the role again, or let the AWS CLI and the SDKs get new credentials by themselves.",
    guide_link: "How to set up a profile",
    keep_secret: "Whoever has these lines can act as the role until they expire. If you paste them in the wrong place, end the session under “My sessions”.",
    // The guide.
    guide_title: "Use a role with the AWS CLI and SDKs",
    guide_text: "With a profile, programs get credentials of a role by themselves, and renew them before they expire. \
        You sign in here again only when your sign-in has ended.",
    guide_profile: "1. Add a profile",
    guide_profile_text: "Put these lines into",
    guide_start_url: "looks like an address of AWS, but is only a name: no program sends a request to it.",
    guide_login: "Then run this command. A page of this broker opens in your browser and asks you to allow the AWS CLI:",
    guide_sdk: "2. Use the profile",
    guide_sdk_text: "Every current SDK supports profiles, so your code contains no keys.",
    guide_others: "All others",
    guide_without_cli: "Without the AWS CLI",
    guide_without_cli_text: "The program brevet can write such a profile and sign you in, too:",
    // Device flow and approval.
    device_title: "Connect a device",
    device_text: "Enter the code that the program on your device shows.",
    device_code_hint: "Eight letters and digits, such as BCDF-2345.",
    device_from_elsewhere: "The program sent its request from the address",
    device_type_it: "Your browser has another address, so the code is not filled in. If you started the request \
        yourself, type the code that the program shows.",
    device_warning: "Never enter a code that somebody sent you: they would act in your name.",
    wrong_user_code: "No program waits for this code. Check it, or start the program again.",
    approve_title: "Allow access?",
    approve_only_if: "Allow access only if you started this request yourself just now.",
    approve_else: "If somebody sent you here, choose Deny: they would act in your name.",
    approve_code: "Compare this code",
    approve_client: "Program",
    calls_itself: "calls itself",
    registered: "registered by an administrator",
    approve_program: "Software",
    approve_address: "Asks from",
    same_address: "the address of this browser",
    other_address: "not the address of this browser",
    approve_time: "Asked at",
    ago: "ago",
    approve_returns: "Answer goes to",
    approve_sign_in: "Your sign-in",
    approve_may: "It may",
    approve_may_text: "get credentials of all your roles until this sign-in ends",
    mfa_code: "MFA code",
    mfa_code_needed: "You proved your identity too long ago to allow this now. Enter the code that your authenticator app shows now.",
    allow: "Allow",
    deny: "Deny",
    too_old_title: "Your sign-in is too old for this",
    too_old: "To allow a program, you must have signed in a short time ago.",
    too_old_next: "Sign out, sign in again, and open this page once more.",
    allowed_title: "Allowed",
    allowed_text: "You have allowed the program to sign in. You can close this page and go back to it. To undo this, choose “End everything” under “My sessions”.",
    denied_title: "Denied",
    denied_text: "The program gets nothing. You can close this page.",
    // Sessions.
    my_sessions: "My sessions",
    this_sign_in: "This sign-in",
    program: "Browser",
    factors: "Proved by",
    sessions_made: "Sessions of this sign-in",
    no_sessions: "None at present. Sessions that you or your programs get with this sign-in appear here until they end.",
    by_password: "password",
    by_code: "code of an MFA device",
    by_key: "security key",
    by_several: "several factors at the identity provider",
    by_provider: "identity provider",
    end_session: "End session",
    newer: "Newer sessions",
    older: "Older sessions",
    session_ended: "The session has ended. Its credentials no longer work.",
    end_all: "End everything",
    end_all_title: "End everything?",
    end_all_text: "This ends the sign-in, all its sessions, and the access of all programs that you allowed with it. \
        You are signed out.",
    session_gone: "This session has ended already.",
    other_sign_ins: "Your other sign-ins",
    last_seen: "Last seen",
    end_sign_in: "End sign-in",
    sign_in_ended: "The sign-in and all its sessions have ended. Programs that you allowed with it have no access any more.",
    sign_in_gone: "This sign-in has ended already.",
    // MFA devices.
    mfa_devices: "MFA devices",
    mfa_text: "An authenticator app shows a new code every 30 seconds. If you add an app as a device, nobody can sign in with your \
        password alone.",
    no_devices: "You have no MFA device.",
    add_device: "Add a device",
    remove: "Remove",
    remove_device_title: "Remove this device?",
    remove_device_text: "The device can no longer confirm your identity. Without a device, your password alone is \
        enough to sign in.",
    device_removed: "The device is removed.",
    device_added: "The device is added. Signing in asks for its code from now on.",
    enrol_title: "Add a device",
    enrol_text: "You need an authenticator app on your phone or computer.",
    enrol_scan: "Scan this image with your authenticator app.",
    enrol_by_hand: "Or type this key into the app:",
    qr: "QR code for your authenticator app",
    first_code: "First code",
    second_code: "Second code",
    enrol_wait: "Wait until the app shows the next code.",
    wrong_codes: "The codes are not two codes of this device in a row. Wait for two new ones.",
    // Access keys.
    access_keys: "Access keys",
    keys_text: "Long-term keys for programs that cannot sign in. Use roles instead wherever you can: their credentials expire.",
    no_keys: "You have no access key.",
    active: "active",
    inactive: "switched off",
    make_key: "Make an access key",
    make_key_title: "Make an access key?",
    make_key_text: "The key works until it is switched off or deleted. The next page shows its secret, only once.",
    switch_off: "Switch off",
    switch_off_title: "Switch off this key?",
    switch_off_text: "Programs that use this key are refused until you switch it on again.",
    switch_on: "Switch on",
    switch_on_title: "Switch on this key?",
    switch_on_text: "Programs that use this key can call the broker again.",
    delete: "Delete",
    delete_key_title: "Delete this key?",
    delete_key_text: "Programs that use this key are refused for ever, and all sessions that they got with it end.",
    key_switched_off: "The key is switched off.",
    key_switched_on: "The key is switched on.",
    key_deleted: "The key is deleted.",
    key_made: "Your new access key",
    key_made_text: "This page shows the secret only once. Store it in a safe place before you leave this page.",
    key_id: "Access key ID",
    secret_key: "Secret access key",
    back_to_keys: "Back to my access keys",
    fresh_code_hint: "The code that your authenticator app shows now.",
    fresh_password_hint: "Enter your password again to confirm that this is you.",
    // Password.
    change_password: "Change password",
    change_password_ends: "Your other sign-ins end when you change your password.",
    password_changed: "The password is changed.",
    password_too_long: "A password must have 1 to 128 characters.",
    password_control: "The password contains a control character, such as a tab or a line break.",
    wrong_current: "The current password is not correct.",
    // Errors.
    they_said: "The identity provider says:",
    to_sign_in: "Go to the sign-in",
    to_roles: "Go to my roles",
    not_found_title: "No such page",
    not_found: "There is nothing at this address.",
    not_found_next: "Check the address, or start from your roles.",
    method_title: "This address only accepts forms",
    method: "Opening this address in a browser has no effect, so that no link can act in your name.",
    method_next: "Go back to the page with the form, and use its button.",
    no_form_title: "This address does not accept this request",
    no_form: "Nothing was changed. The request sends a form to a page that takes none, or uses a method that this \
        address does not allow.",
    forged_title: "This form is out of date",
    forged: "Nothing was changed. The form was made before you signed in or out, your browser did not send the cookie \
        of this broker, or the form does not come from a page of this broker.",
    forged_next: "Load the page with the form again, and send it once more. If you came here from another site, close this page.",
    password_first_title: "Choose a new password first",
    password_first: "Nothing was changed. Your password has expired, or an administrator asks you to choose a new one.",
    password_first_next: "Choose a new password, and repeat what you did.",
    ended_title: "You are signed out",
    ended: "Nothing was changed. Your sign-in has ended: it expired, you did not use it for a while, somebody ended it \
        (you, an administrator or your identity provider), or your user was changed or deleted.",
    ended_next: "Sign in again, and repeat what you did.",
    host_title: "This is not the address of the broker",
    host: "The pages are served at one address only, so that nobody can show them under another name.",
    host_next: "Use this address instead:",
    cookies_title: "The cookies of your browser cannot be used",
    cookies: "Nothing was changed. Your browser sent two cookies with the same name, or cookies that are not plain text.",
    cookies_next: "Delete the cookies of this site in your browser, and sign in again.",
    form_title: "This request cannot be read",
    form: "Nothing was changed. A field or parameter is missing, appears twice, or has a value that no page of this \
        broker sends, or the request is not encoded as a form.",
    form_next: "Load the page from which you came again, and repeat what you did.",
    refused_title: "Not allowed",
    refused_next: "Ask an administrator for the permission, and give them the request ID.",
    failed_title: "This did not work",
    failed_next: "Check what you entered and try again. If it happens again, give the request ID to an administrator.",
    later_title: "The broker is temporarily unavailable",
    later: "The broker cannot do this now. Nothing was changed.",
    later_next: "Try again in a few seconds.",
    internal_title: "Something is wrong with the broker",
    internal: "The broker could not finish this. Its logs may contain the reason, under the request ID.",
    internal_next: "Try again. If it happens again, give the request ID to an administrator.",
    client_title: "The request of the program is not valid",
    client_next: "Start the program again. If it happens again, send this page to the maintainer of the program.",
    users_only_title: "Only for users of this broker",
    users_only: "You signed in with an identity provider, which keeps your password and your devices.",
    users_only_next: "Change them there.",
    too_many_title: "Too many requests or attempts",
    too_many_what: "You, or others in your network, made too many requests or failed attempts in a short time, or the \
        broker has too much to do.",
    too_many_next: "Wait a few minutes and try again.",
    passwords_off_title: "Passwords are not used here",
    passwords_off: "Users of this broker cannot sign in with a password.",
    passwords_off_next: "Choose an identity provider on the page for the sign-in.",
}

impl Texts {
    /// Returns the name that the pages show for a factor of authentication.
    pub(super) fn factor(&self, method: Method) -> &'static str {
        match method {
            Method::Pwd => self.by_password,
            Method::Otp => self.by_code,
            Method::Hwk => self.by_key,
            Method::Mfa => self.by_several,
            Method::Fed => self.by_provider,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_plain() {
        for (key, text) in KEYS {
            assert!(!text.is_empty() && text.trim() == *text, "{key}");
            assert!(
                !text.contains("  ") && !text.contains(['<', '>', '&']),
                "{key}"
            );
        }
        assert_eq!(ENGLISH.sign_in, "Sign in");
    }
}
