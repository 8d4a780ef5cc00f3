//! Pure: which requests are the model API's. Everything that is not named here is refused.

use ureq::http::Method;

use super::wire::Fault;
use crate::limits::PROXY_QUERY_BYTES_MAX;

/// A request that may pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route<'a> {
    /// Path and query, exactly as they came.
    pub(super) target: &'a str,
    /// Whether its answer costs tokens.
    pub(super) is_counted: bool,
}

/// Judges a request line. The path is compared as it stands, so there is nothing to normalise: no
/// escapes, no dot segments, no doubled or trailing slashes, no other host.
pub(super) fn route<'a>(method: &Method, target: &'a str) -> Result<Route<'a>, Fault> {
    if !target.starts_with('/') {
        return Err(Fault::refused(403, "permission_error", "only paths of the model API pass"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (allowed, is_counted) = match path {
        "/v1/messages" => (Method::POST, true),
        "/v1/messages/count_tokens" => (Method::POST, false),
        "/v1/models" => (Method::GET, false),
        _ if path.strip_prefix("/v1/models/").is_some_and(is_model) => (Method::GET, false),
        _ => {
            let reason = "this path is not the model API's, or not one that passes";
            return Err(Fault::refused(404, "not_found_error", reason));
        }
    };
    if *method != allowed {
        let reason = format!("only {allowed} is allowed here");
        return Err(Fault::refused(405, "invalid_request_error", reason));
    }
    let fits = query.len() <= PROXY_QUERY_BYTES_MAX
        && query.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~=&%+,:[]".contains(&b));
    if !fits {
        return Err(Fault::refused(400, "invalid_request_error", "the query is not allowed"));
    }
    Ok(Route { target, is_counted })
}

/// Whether `text` can be a model's id; with letters first, so that it is no dot segment.
fn is_model(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:@".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &Method, target: &str, expected: Result<bool, u16>) {
        let found = match route(method, target) {
            Ok(route) => {
                assert_eq!(target, route.target);
                Ok(route.is_counted)
            }
            Err(Fault::Refused { status, .. }) => Err(status),
            Err(Fault::Gone) => Err(0),
        };
        assert_eq!(expected, found, "{method} {target}");
    }

    #[test]
    fn only_the_model_apis_paths_pass() {
        check(&Method::POST, "/v1/messages", Ok(true));
        check(&Method::POST, "/v1/messages?beta=true", Ok(true));
        check(&Method::POST, "/v1/messages/count_tokens", Ok(false));
        check(&Method::GET, "/v1/models", Ok(false));
        check(&Method::GET, "/v1/models?after_id=x&limit=20", Ok(false));
        check(&Method::GET, "/v1/models/claude-sonnet-4-5@20250929", Ok(false));
        for target in [
            "/",
            "/v1",
            "/v1/messages/",
            "//v1/messages",
            "/v1//messages",
            "/V1/messages",
            "/v1/messages/batches",
            "/v1/messages/../organizations/me",
            "/v1/messages/%2e%2e/files",
            "/v1/messages%3F",
            "/v1/messages;a=b",
            "/v1/messages\\..\\files",
            "/v1/files",
            "/v1/oauth/token",
            "/api/oauth/claude_cli/create_api_key",
            "/v1/organizations/api_keys",
            "/v1/models/",
            "/v1/models/.",
            "/v1/models/..",
            "/v1/models/../files",
            "/v1/models/a/b",
            "/v1/models/a%2fb",
        ] {
            check(&Method::POST, target, Err(404));
            check(&Method::GET, target, Err(404));
        }
    }

    #[test]
    fn no_other_host_method_or_query() {
        for target in
            ["http://evil.example/v1/messages", "evil.example:443", "*", "", "v1/messages", "?"]
        {
            check(&Method::POST, target, Err(403));
        }
        check(&Method::CONNECT, "evil.example:443", Err(403));
        check(&Method::GET, "/v1/messages", Err(405));
        check(&Method::DELETE, "/v1/models/x", Err(405));
        check(&Method::POST, "/v1/messages?a=b#c", Err(400));
        check(&Method::POST, "/v1/messages?a=b c", Err(400));
        check(&Method::POST, "/v1/messages?u=http://evil.example", Err(400));
        check(&Method::GET, &format!("/v1/models?{}", "a".repeat(1024)), Ok(false));
        check(&Method::GET, &format!("/v1/models?{}", "a".repeat(1025)), Err(400));
        check(&Method::GET, &format!("/v1/models/{}", "a".repeat(129)), Err(404));
    }
}
