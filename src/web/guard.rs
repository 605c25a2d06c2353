//! Which requests are allowed, and what a browser may do with the answer.

use std::net::IpAddr;

use hyper::header::{
    CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use hyper::{Response, Uri};

/// No content from elsewhere, no inline code, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The host names of the page. A foreign page whose name is made to point here (DNS rebinding) sends that name. So only
/// addresses, localhost and the configured names are answered.
#[derive(Debug)]
pub(super) struct Guard {
    names: Vec<String>,
}

impl Guard {
    pub(super) fn new(names: &[String]) -> Self {
        Self { names: names.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Whether a request with these headers is answered. The error is the text for the client.
    pub(super) fn admits(&self, headers: &HeaderMap) -> Result<(), String> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = host.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_ascii_lowercase)).unwrap_or_default();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if bare == "localhost" || bare.parse::<IpAddr>().is_ok() || self.names.iter().any(|known| known == bare) {
            return Ok(());
        }
        Err("this server does not go by that name: ask by its address, or add the name to web.hosts\n".to_owned())
    }
}

/// Adds the headers that restrict what a browser may do with the answer.
pub(super) fn sealed<B>(mut response: Response<B>) -> Response<B> {
    const HEADERS: [(HeaderName, &str); 5] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let guard = Guard::new(&["Tripline.example".to_owned()]);
        let admits = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_str(host).unwrap());
            guard.admits(&headers).is_ok()
        };
        for host in ["localhost:8787", "127.0.0.1:8787", "127.0.0.1", "[::1]:8787", "10.0.0.7", "TRIPLINE.example:80"] {
            assert!(admits(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:8787", "localhost.evil.example", "127.0.0.1.evil.example", "a@b"]
        {
            assert!(!admits(host), "{host}");
        }
        assert!(guard.admits(&HeaderMap::new()).is_err());
    }
}
