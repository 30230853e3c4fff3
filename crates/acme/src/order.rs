//! One order at a CA, from the account to the certificate (RFC 8555 section 7).

use std::io;
use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error,
    ExternalAccountKey, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use model::spec::{AcmeChallenge, AcmeSpec};
use serde::{Deserialize, Serialize};
use tls::{IssuedCertificate, SigningRequest};
use tokio::time::timeout;

use crate::directory::{DirectoryClient, Unreached};
use crate::renewal::{Failure, Unix};
use crate::store::{KeptProof, Store};

/// For a whole order. The CA may take its time to come and look.
const ORDER_TIMEOUT: Duration = Duration::from_secs(180);
/// For each of the two waits in it.
const POLL: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).timeout(Duration::from_secs(90));
/// Of what a CA says of a failure; it is shown to people.
const REASON_BYTES_MAX: usize = 600;

const ACCOUNT_GONE: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
const ALREADY_REPLACED: &str = "urn:ietf:params:acme:error:alreadyReplaced";

/// The account as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    email: Option<String>,
    credentials: AccountCredentials,
}

/// The account that is kept, or a new one.
pub(crate) async fn account(
    store: &Store,
    spec: &AcmeSpec,
    client: &DirectoryClient,
) -> Result<Account, Failure> {
    let builder = || Account::builder_with_http(Box::new(client.clone()));
    let contact = spec.email.as_ref().map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = contact.as_deref().into_iter().collect();
    if let Some(Kept { email, credentials }) = store.account::<Kept>().map_err(|e| ours(&e))? {
        let copy = copy(&credentials).map_err(|e| ours(&e))?;
        let account = builder().from_credentials(copy).await.map_err(|e| failure(&e, client))?;
        if email != spec.email {
            account.update_contacts(&contact).await.map_err(|e| failure(&e, client))?;
            let kept = Kept { email: spec.email.clone(), credentials };
            store.keep_account(&kept).map_err(|e| ours(&e))?;
        }
        return Ok(account);
    }
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let eab =
        spec.eab.as_ref().map(|eab| ExternalAccountKey::new(eab.key_id.clone(), &eab.hmac_key));
    let made = builder().create(&new, spec.directory.clone(), eab.as_ref()).await;
    let (account, credentials) = made.map_err(|e| failure(&e, client))?;
    let kept = Kept { email: spec.email.clone(), credentials };
    store.keep_account(&kept).map_err(|e| ours(&e))?;
    tracing::info!("account at {}: {}", spec.directory, account.id());
    Ok(account)
}

/// The library takes credentials and has no copy of them.
fn copy(credentials: &AccountCredentials) -> io::Result<AccountCredentials> {
    Ok(serde_json::from_value(serde_json::to_value(credentials)?)?)
}

/// Does the failure mean that the CA has forgotten the account?
pub(crate) fn is_account_gone(failure: &Failure) -> bool {
    failure.reason.contains(ACCOUNT_GONE)
}

/// Chain and key of a new certificate, as PEM. `replaced`: the one until now, for CAs that want
/// to know. `show`: makes all balancers show the proof, and is done once they do.
pub(crate) async fn issue<Shown: Future<Output = io::Result<()>>>(
    account: &Account,
    client: &DirectoryClient,
    domain: &str,
    challenge: AcmeChallenge,
    replaced: Option<&IssuedCertificate>,
    show: impl Fn(KeptProof) -> Shown,
) -> Result<String, Failure> {
    let issued = async {
        let mut order = begin(account, domain, replaced).await.map_err(|e| failure(&e, client))?;
        prove(&mut order, client, domain, challenge, &show).await?;
        let request = SigningRequest::new(domain).map_err(|e| ours(&e))?;
        order.finalize_csr(&request.request).await.map_err(|e| failure(&e, client))?;
        let chain = order.poll_certificate(&POLL).await.map_err(|e| failure(&e, client))?;
        Ok(format!("{}\n{}", chain.trim_end(), request.key))
    };
    let pem: String = timeout(ORDER_TIMEOUT, issued).await.unwrap_or_else(|_| {
        let reason = format!("the order took longer than {ORDER_TIMEOUT:?}");
        Err(Failure { reason, refused: true, retry_after: None })
    })?;
    let unusable = |what: String| Failure {
        reason: format!("what the CA issued cannot be used: {what}"),
        refused: true,
        retry_after: None,
    };
    let made = IssuedCertificate::parse(&pem).map_err(unusable)?;
    if !made.names.iter().any(|name| name == domain) {
        return Err(unusable(format!("it is for {}", made.names.join(", "))));
    }
    Ok(pem)
}

async fn begin(
    account: &Account,
    domain: &str,
    replaced: Option<&IssuedCertificate>,
) -> Result<Order, Error> {
    let identifiers = [Identifier::Dns(domain.to_owned())];
    // RFC 9773 section 5: it exempts renewals from limits.
    let replaced = replaced.and_then(|held| CertificateIdentifier::try_from(held.leaf()).ok());
    if let Some(replaced) = replaced {
        match account.new_order(&NewOrder::new(&identifiers).replaces(replaced)).await {
            Err(Error::Unsupported(_)) => {}
            Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(ALREADY_REPLACED) => {}
            // The CA did not repeat it, as it must (section 5): it knows the word and not the deed.
            Err(Error::Other(other)) if other.downcast_ref::<Unreached>().is_none() => {}
            other => return other,
        }
    }
    account.new_order(&NewOrder::new(&identifiers)).await
}

/// Until the CA has seen that the domain is ours.
async fn prove<Shown: Future<Output = io::Result<()>>>(
    order: &mut Order,
    client: &DirectoryClient,
    domain: &str,
    challenge: AcmeChallenge,
    show: &impl Fn(KeptProof) -> Shown,
) -> Result<(), Failure> {
    let (kind, word) = match challenge {
        AcmeChallenge::Http01 => (ChallengeType::Http01, "http-01"),
        AcmeChallenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
    };
    let mut pending = false;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(|e| failure(&e, client))?;
        // It may have been proved not long ago.
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let Some(mut asked) = authorization.challenge(kind.clone()) else {
            let reason = format!("the CA does not offer {word} for {domain}");
            return Err(Failure { reason, refused: true, retry_after: None });
        };
        let proof = KeptProof {
            http: challenge == AcmeChallenge::Http01,
            domain: domain.to_owned(),
            token: asked.token.clone(),
            key_authorization: asked.key_authorization().as_str().to_owned(),
        };
        show(proof).await.map_err(|e| ours(&e))?;
        asked.set_ready().await.map_err(|e| failure(&e, client))?;
        pending = true;
    }
    if !pending && order.state().status == OrderStatus::Ready {
        return Ok(());
    }
    match order.poll_ready(&POLL).await {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => Ok(()),
        Ok(_) => Err(Failure {
            reason: why_invalid(order).await,
            refused: true,
            retry_after: client.take_retry_after(),
        }),
        Err(error) => Err(failure(&error, client)),
    }
}

/// What the CA says of the proofs that it did not like.
async fn why_invalid(order: &mut Order) -> String {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if let Ok(state) = authorization.refresh().await {
            let errors = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
            reasons.extend(errors.map(ToString::to_string));
        }
    }
    match reasons.is_empty() {
        true => "the CA refused the order, and does not say why".into(),
        false => shortened(&format!("the CA saw no proof: {}", reasons.join("; "))),
    }
}

/// When the CA wants the certificate renewed, and when it wants to be asked again; `None`: it does
/// not say such things.
pub(crate) async fn window(
    account: &Account,
    client: &DirectoryClient,
    held: &IssuedCertificate,
) -> Result<Option<((Unix, Unix), Duration)>, Failure> {
    let Ok(id) = CertificateIdentifier::try_from(held.leaf()) else { return Ok(None) };
    match account.renewal_info(&id).await {
        Ok((info, again)) => {
            let at = |moment: i64| Duration::from_secs(u64::try_from(moment).unwrap_or(0));
            let window = info.suggested_window;
            let (start, end) = (window.start.unix_timestamp(), window.end.unix_timestamp());
            Ok(Some(((at(start), at(end)), again)))
        }
        Err(Error::Unsupported(_)) => Ok(None),
        Err(error) => Err(failure(&error, client)),
    }
}

fn failure(error: &Error, client: &DirectoryClient) -> Failure {
    let unreached = match error {
        Error::Other(other) => other.downcast_ref::<Unreached>().is_some(),
        // A proxy before the CA answers in its own words.
        Error::Json(_) => true,
        // Nothing that the CA holds against us (RFC 8555 sections 6.5 and 6.7).
        Error::Api(problem) => {
            let kind = problem.r#type.as_deref().unwrap_or_default();
            kind.ends_with(":badNonce") || kind.ends_with(":serverInternal")
        }
        _ => false,
    };
    Failure {
        reason: shortened(&error.to_string()),
        refused: !unreached,
        retry_after: client.take_retry_after(),
    }
}

/// Nothing that the CA has to do with.
fn ours(error: &dyn std::fmt::Display) -> Failure {
    Failure { reason: error.to_string(), refused: false, retry_after: None }
}

/// In one line.
fn shortened(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(REASON_BYTES_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
