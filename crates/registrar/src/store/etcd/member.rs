//! One member of etcd: what it is asked, and how it is told who asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderValue};
use model::spec::StoreUser;
use serde_json::{Value as Json, json};
use tls::Dialler;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::client::{Ask, Authority, Client};

/// Where etcd listens for clients.
const PORT: u16 = 2379;

pub(super) struct Member {
    pub(super) client: Client,
    /// Where tokens are asked for, and none is shown: etcd refuses one that is over there, too.
    door: Client,
    /// Held by who asks it for a token.
    letting_in: Mutex<()>,
}

/// Who we are to etcd.
pub(crate) struct User {
    user: StoreUser,
    directory: PathBuf,
}

impl User {
    /// A password's path counts from `directory`.
    pub(crate) fn new(user: StoreUser, directory: &Path) -> Result<Self, String> {
        let user = Self { user, directory: directory.to_owned() };
        user.password().map(|_| user)
    }

    /// Read again each time it is used: a file may have another since.
    fn password(&self) -> Result<String, String> {
        tls::read_secret(&self.user.password, &self.directory)
    }
}

/// Why a member did not do what it was asked.
pub(super) enum Failure {
    /// It says that it is not to be done: the others would say the same.
    Refused(String),
    /// It does not answer, or cannot do anything.
    Away(String),
}

impl From<Failure> for String {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(why) | Failure::Away(why) => why,
        }
    }
}

impl Member {
    /// `text`: its URL, or its host with or without a port.
    pub(super) fn new(text: &str, tls: &Arc<Dialler>) -> Result<Self, String> {
        let authority = Authority::parse(text, PORT)?;
        let client = || Client::new(authority.clone()).with_tls(tls);
        Ok(Self { client: client()?, door: client()?, letting_in: Mutex::default() })
    }

    /// As one that etcd let in, where it wants to know who asks.
    pub(super) async fn ask(
        &self,
        user: Option<&User>,
        path: &str,
        body: &Json,
        within: Duration,
    ) -> Result<Json, Failure> {
        let client = &self.client;
        let Some(user) = user else { return ask(client, path, body, within).await };
        if client.header(&AUTHORIZATION).is_none() {
            self.authenticate(user, None, within).await?;
        }
        let shown = client.header(&AUTHORIZATION);
        match ask(client, path, body, within).await {
            // Tokens end after a while, with a restart, and with each change of users and roles.
            Err(Failure::Refused(why)) if is_token_over(&why) => {
                self.authenticate(user, shown, within).await?;
                ask(client, path, body, within).await
            }
            answer => answer,
        }
    }

    /// Gets a token, which further requests show (etcd documentation, "Authentication"), in place
    /// of `over`; unless another question has got one meanwhile.
    async fn authenticate(
        &self,
        user: &User,
        over: Option<HeaderValue>,
        within: Duration,
    ) -> Result<(), Failure> {
        let late = |_| Failure::Away(format!("{} lets nobody in", self.client.authority()));
        let _alone = timeout(within, self.letting_in.lock()).await.map_err(late)?;
        if self.client.header(&AUTHORIZATION) != over {
            return Ok(());
        }
        let password = user.password().map_err(Failure::Refused)?;
        let who = json!({ "name": user.user.name, "password": password });
        let answer = ask(&self.door, "/v3/auth/authenticate", &who, within).await?;
        let token = answer["token"].as_str().unwrap_or_default();
        self.client.set_header(AUTHORIZATION, token).map_err(Failure::Refused)
    }
}

/// What etcd says of a token that it does not know or no longer believes.
fn is_token_over(why: &str) -> bool {
    ["invalid auth token", "revision of auth store is old"].iter().any(|said| why.contains(said))
}

async fn ask(member: &Client, path: &str, body: &Json, within: Duration) -> Result<Json, Failure> {
    let body = body.to_string().into_bytes();
    let ask = Ask { method: Method::POST, path, body, within };
    let reply = member.ask(&ask).await.map_err(Failure::Away)?;
    if reply.status.is_client_error() {
        return Err(Failure::Refused(reply.refusal()));
    }
    if !reply.status.is_success() {
        return Err(Failure::Away(reply.refusal()));
    }
    // A stream of one message, as the gateway answers `keepalive`, ends with a line break.
    let not_its = |error| format!("what {} answered is not etcd's: {error}", member.authority());
    serde_json::from_slice(&reply.body).map_err(|error| Failure::Away(not_its(error)))
}
