//! What a failed turn means for the host: its kind, and a sentence without secrets.

use rust_claw_protocol::ErrorKind;

use super::event::TurnEnd;
use crate::limits::ERROR_CHARS_MAX;

/// Why a turn failed; `None` where it did not. `said` is the error that the CLI put into the
/// model's mouth last.
pub(super) fn of(end: &TurnEnd, said: Option<&str>) -> Option<(ErrorKind, String)> {
    if !end.is_error && said.is_none() {
        return None;
    }
    let mut text = end.errors.join("; ");
    if text.is_empty() {
        text = end.result.clone().unwrap_or_default();
    }
    let kind = kind(end, said, &text);
    let text = match kind {
        // The CLI's own words name commands that nobody can type here.
        ErrorKind::Credential => "the model API refuses the key or token".to_owned(),
        ErrorKind::Billing => "the account of the model API has no credit left".to_owned(),
        _ if text.is_empty() => "the Claude Code CLI failed without saying why".to_owned(),
        _ => text,
    };
    Some((kind, text))
}

/// Whether `text` says that a session to continue is not there. Source: what the CLI prints for an
/// id that it does not know, and for one that is none.
pub(super) fn is_unknown_session(text: &str) -> bool {
    text.contains("No conversation found with session ID")
        || text.contains("--resume requires a valid session")
}

fn kind(end: &TurnEnd, said: Option<&str>, text: &str) -> ErrorKind {
    let lower = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if is_unknown_session(text) {
        return ErrorKind::SessionUnknown;
    }
    if end.terminal_reason.as_deref() == Some("prompt_too_long")
        || says(&["prompt is too long", "request too large"])
    {
        return ErrorKind::Overflow;
    }
    match (said, end.api_error_status) {
        (Some("billing_error"), _) | (_, Some(402)) => ErrorKind::Billing,
        (Some("authentication_failed"), _) | (_, Some(401 | 403)) => ErrorKind::Credential,
        (Some("rate_limit"), _) | (_, Some(429 | 529)) => ErrorKind::RateLimit,
        // Older versions give neither: their words are all there is.
        _ if says(&["credit balance", "billing"]) => ErrorKind::Billing,
        _ if says(&["invalid api key", "authenticat", "/login", "oauth token"]) => {
            ErrorKind::Credential
        }
        _ if says(&["rate limit", "usage limit", "overloaded"]) => ErrorKind::RateLimit,
        _ => ErrorKind::Other,
    }
}

/// What is said when a request was repeated for too long.
pub(super) fn retried(status: Option<u16>) -> (ErrorKind, String) {
    match status {
        Some(401 | 403) => {
            (ErrorKind::Credential, "the model API refuses the key or token".to_owned())
        }
        Some(status @ (429 | 529)) => {
            (ErrorKind::RateLimit, format!("the model API has no room for us (status {status})"))
        }
        Some(status) => (ErrorKind::Other, format!("the model API fails (status {status})")),
        None => (ErrorKind::Other, "the model API cannot be reached, or does not end".to_owned()),
    }
}

/// Shortens `text` and takes `secrets` out of it.
pub(super) fn shown(text: &str, secrets: &[String]) -> String {
    let clean = secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[…]"));
    clean.trim().chars().take(ERROR_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, status: Option<u16>, said: Option<&str>, expected: ErrorKind) {
        let end = TurnEnd {
            is_error: true,
            result: Some(text.to_owned()),
            api_error_status: status,
            ..TurnEnd::default()
        };
        assert_eq!(Some(expected), of(&end, said).map(|(kind, _)| kind), "{text}");
    }

    #[test]
    fn h16_what_the_cli_says_in_place_of_an_answer_is_an_error_of_its_kind() {
        use ErrorKind::{Billing, Credential, Other, RateLimit};
        check("Credit balance is too low", Some(400), Some("billing_error"), Billing);
        check("Credit balance is too low", None, None, Billing);
        check("Failed to authenticate. API Error: 403", Some(403), None, Credential);
        check("Invalid API key · Please run /login", None, None, Credential);
        check("API Error: 529 overloaded.", Some(529), Some("server_error"), RateLimit);
        check("API Error: Rate limit reached", None, None, RateLimit);
        check("API Error: 400 whatever", Some(400), Some("unknown"), Other);
        check("", None, None, Other);
    }

    #[test]
    fn h16_an_error_counts_even_where_the_turn_claims_success() {
        let end =
            TurnEnd { result: Some("Credit balance is too low".into()), ..TurnEnd::default() };
        assert_eq!(None, of(&end, None), "a model may say these words");
        let (kind, text) = of(&end, Some("billing_error")).expect("is an error");
        assert_eq!(ErrorKind::Billing, kind);
        assert!(!text.contains("Credit balance"), "not the CLI's words");
    }

    #[test]
    fn h36_h37_lost_and_overfull_sessions_are_told_apart() {
        let lost = "No conversation found with session ID: 1";
        check(lost, None, None, ErrorKind::SessionUnknown);
        check("Prompt is too long · the request is", Some(400), None, ErrorKind::Overflow);
        check("Request too large (max 32MB).", Some(413), None, ErrorKind::Overflow);
    }

    #[test]
    fn secrets_and_length_are_taken_out_of_what_is_shown() {
        let text = format!("key sk-planted refused {}", "x".repeat(5000));
        let shown = shown(&text, &["sk-planted".to_owned()]);
        assert!(shown.starts_with("key […] refused x"));
        assert_eq!(ERROR_CHARS_MAX, shown.chars().count());
    }
}
