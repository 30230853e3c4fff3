//! Tokens: who may do what.

use std::collections::BTreeMap;

use admin::is_same_secret;

/// All that a registry knows.
#[derive(Default)]
pub(crate) struct Tokens {
    pub(crate) admin: Option<String>,
    pub(crate) services: BTreeMap<String, String>,
}

impl Tokens {
    /// Without any, everybody may do everything.
    pub(crate) fn are_demanded(&self) -> bool {
        self.admin.is_some() || !self.services.is_empty()
    }

    /// Whether who sent this may deal with the service; `None`: with all of them. Each comparison
    /// takes as long for a nearly right token as for a wrong one.
    pub(crate) fn admit(&self, service: Option<&str>, sent: &[u8]) -> bool {
        let is = |token: &String| is_same_secret(sent, token.as_bytes());
        let admin = self.admin.as_ref().is_some_and(is);
        let own = service.and_then(|service| self.services.get(service)).is_some_and(is);
        admin | own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_a_service_opens_that_service() {
        let tokens = Tokens {
            admin: Some("root".into()),
            services: [("web".to_owned(), "w3b".to_owned())].into(),
        };
        for (service, sent, admitted) in [
            (Some("web"), "w3b", true),
            (Some("web"), "root", true),
            (Some("api"), "root", true),
            (None, "root", true),
            (Some("api"), "w3b", false),
            (None, "w3b", false),
            (Some("web"), "", false),
            (Some("web"), "w3", false),
        ] {
            assert_eq!(tokens.admit(service, sent.as_bytes()), admitted, "{service:?} {sent}");
        }
        assert!(!Tokens::default().are_demanded());
    }
}
