//! A registry as a source of endpoints: the one in this process, or another over HTTP or HTTPS.
//!
//! An instance's id is the endpoint's identity. One that is known from before a restart only
//! (`restored`) is an endpoint where the service checks health, for it gets traffic after its first
//! good check; without checks it is none until it is heard of.

use std::sync::Arc;
use std::time::Duration;

use discovery::Backoff;
use discovery::sources::{BoxFuture, Source, Teller, Told, Unheard};
use hyper::Method;
use hyper::StatusCode;
use model::{Endpoint, EndpointId, Weight};
use registry::{Listed, State};
use tokio::time::sleep;

use crate::client::{Ask, Client};
use crate::keeper::{Keeper, List};

/// As in `discover: { registry: {} }`, and in the status.
pub const NAME: &str = "registry";

/// One request waits so long for a change.
const WAIT: Duration = Duration::from_secs(10);
/// What an answer may take beyond that: a partition sends no sign.
const SLACK: Duration = Duration::from_secs(3);
/// While nothing changes, how often it is looked whether the registry is still sure.
const LOOK: Duration = Duration::from_secs(1);

/// Where to look.
pub enum Place {
    Here(Arc<Keeper>),
    There(Client),
}

/// The instances of one service.
pub struct Registered {
    pub place: Place,
    /// That they registered for.
    pub service: String,
    /// Health is checked: what must prove itself will.
    pub checked: bool,
    /// Who was found before it is asked; `None`: that is not known.
    pub before: Option<Vec<Endpoint>>,
}

impl Source for Registered {
    fn place(&self) -> String {
        match &self.place {
            Place::Here(_) => format!("here, {}", self.service),
            Place::There(client) => format!("{}, {}", client.authority().url(), self.service),
        }
    }

    fn follow(self: Box<Self>, teller: Teller) -> BoxFuture {
        Box::pin(async move {
            let mut known = Known { checked: self.checked, told: self.before, last: None };
            let Err(Unheard) = match self.place {
                Place::Here(keeper) => here(&keeper, &self.service, &mut known, &teller).await,
                Place::There(client) => there(&client, &self.service, &mut known, &teller).await,
            };
        })
    }
}

/// What was told last.
struct Known {
    checked: bool,
    /// At first, who was found before.
    told: Option<Vec<Endpoint>>,
    last: Option<Told>,
}

impl Known {
    async fn tell(&mut self, list: &List, teller: &Teller) -> Result<(), Unheard> {
        let mut endpoints: Vec<Endpoint> =
            list.instances.iter().filter_map(|listed| endpoint(listed, self.checked)).collect();
        let wrong = match (&list.stale, list.settling) {
            (Some(why), _) => Some(format!("its store is away: {why}")),
            (None, true) => Some("it has just begun, and does not know yet who is missing".into()),
            (None, false) => None,
        };
        // A registry that knows nothing of the time before it began does not know who is missing.
        if list.settling {
            // That it knows nobody says nothing, unless somebody else was known.
            if endpoints.is_empty() && self.told.is_none() {
                return self.pass_on(Told::of(None, wrong), teller).await;
            }
            let known = self.told.take().unwrap_or_default();
            let absent = |one: &Endpoint| {
                !list.left.contains(one.id.as_str())
                    && !endpoints.iter().any(|e| e.id == one.id || e.address == one.address)
            };
            let kept: Vec<Endpoint> = known.into_iter().filter(absent).collect();
            endpoints.extend(kept);
        }
        self.told = Some(endpoints.clone());
        let told = Told::of(Some(endpoints), wrong);
        self.pass_on(told, teller).await
    }

    async fn pass_on(&mut self, told: Option<Told>, teller: &Teller) -> Result<(), Unheard> {
        if let Some(told) = told
            && self.last.as_ref() != Some(&told)
        {
            self.last = Some(told.clone());
            teller.tell(told).await?;
        }
        Ok(())
    }
}

fn endpoint(listed: &Listed, checked: bool) -> Option<Endpoint> {
    let instance = &listed.instance;
    (checked || listed.state != State::Restored).then(|| Endpoint {
        id: EndpointId::new(&*instance.id),
        weight: Weight(instance.weight),
        zone: instance.zone.as_deref().map(Arc::from),
        priority: instance.priority,
        ..Endpoint::at(instance.socket_address())
    })
}

type Never = std::convert::Infallible;

async fn here(
    keeper: &Keeper,
    service: &str,
    known: &mut Known,
    teller: &Teller,
) -> Result<Never, Unheard> {
    let mut versions = keeper.watch(service);
    loop {
        versions.mark_unchanged();
        known.tell(&keeper.list(service), teller).await?;
        tokio::select! {
            changed = versions.changed() => {
                if changed.is_err() {
                    versions = keeper.watch(service);
                }
            }
            () = sleep(LOOK) => {}
        }
    }
}

async fn there(
    client: &Client,
    service: &str,
    known: &mut Known,
    teller: &Teller,
) -> Result<Never, Unheard> {
    let mut backoff = Backoff::new(teller.seed);
    let (mut version, mut unsure) = (None, false);
    loop {
        let wait = if unsure { LOOK } else { WAIT };
        let path = match version {
            None => format!("/v1/services/{service}/instances"),
            Some(version) => format!(
                "/v1/services/{service}/instances?since={version}&wait={}ms",
                wait.as_millis()
            ),
        };
        let ask = Ask { method: Method::GET, path: &path, body: Vec::new(), within: wait + SLACK };
        match ask_list(client, &ask, service).await {
            Ok(list) => {
                backoff.reset();
                version = Some(list.version);
                unsure = list.settling || list.stale.is_some();
                known.tell(&list, teller).await?;
            }
            Err(reason) => {
                // After it answers again, all of it is read.
                version = None;
                known.pass_on(Some(Told::Lost { reason }), teller).await?;
                sleep(backoff.wait()).await;
            }
        }
    }
}

async fn ask_list(client: &Client, ask: &Ask<'_>, service: &str) -> Result<List, String> {
    let reply = client.ask(ask).await?;
    if reply.status != StatusCode::OK {
        return Err(reply.refusal());
    }
    let list: List = serde_json::from_slice(&reply.body)
        .map_err(|error| format!("what it answered is no list of instances: {error}"))?;
    let own = |listed: &Listed| listed.instance.service == service;
    if !list.instances.iter().all(|listed| own(listed) && listed.instance.check().is_ok()) {
        return Err("what it answered is no list of this service's instances".into());
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use model::ServiceName;
    use registry::{Instance, Registration};
    use tokio::sync::mpsc;

    use super::*;

    fn listed(id: &str, number: u8, state: State) -> Listed {
        let address = [10, 0, 0, number].into();
        let registration =
            Registration { weight: 3, zone: Some("a".into()), ..Registration::on(80) };
        let instance = Instance::new("web", registration, id, address).unwrap();
        Listed { instance: Arc::new(instance), state }
    }

    fn list(instances: Vec<Listed>, settling: bool) -> List {
        List {
            service: "web".into(),
            version: 1,
            instances,
            preserving: false,
            settling,
            left: Default::default(),
            stale: None,
        }
    }

    async fn told(known: &mut Known, list: &List) -> Option<Told> {
        let (sender, mut receiver) = mpsc::channel(4);
        let teller = Teller::new(ServiceName::new("web"), |_, _, _| Ok(Vec::new()), 1, sender);
        known.tell(list, &teller).await.unwrap();
        receiver.try_recv().ok().map(|(_, told)| told)
    }

    fn ids(told: Option<Told>) -> Vec<String> {
        match told {
            Some(Told::Endpoints(all) | Told::Partly { endpoints: all, .. }) => {
                all.iter().map(|listed| listed.endpoint.id.to_string()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn who_is_restored_is_an_endpoint_only_where_health_is_checked() {
        let both = list(vec![listed("a", 1, State::Up), listed("b", 2, State::Restored)], false);
        for (checked, expected) in [(true, vec!["a", "b"]), (false, vec!["a"])] {
            let mut known = Known { checked, told: None, last: None };
            assert_eq!(ids(told(&mut known, &both).await), expected);
            assert_eq!(told(&mut known, &both).await, None, "told once");
        }
        let made = endpoint(&both.instances[0], true).unwrap();
        assert_eq!((made.weight, made.zone.as_deref()), (Weight(3), Some("a")));
    }

    #[tokio::test]
    async fn a_registry_that_has_just_begun_removes_nobody() {
        let mut known = Known { checked: true, told: None, last: None };
        let (a, b) = (listed("a", 1, State::Up), listed("b", 2, State::Up));
        told(&mut known, &list(vec![a.clone(), b], false)).await;
        assert_eq!(ids(told(&mut known, &list(Vec::new(), true)).await), ["a", "b"]);
        // Who said that it leaves, does.
        let without_a = List { left: ["a".to_owned()].into(), ..list(Vec::new(), true) };
        let mut other = Known { checked: true, told: known.told.clone(), last: None };
        assert_eq!(ids(told(&mut other, &without_a).await), ["b"]);
        // Who is back under another id is not there twice.
        let back = listed("b2", 2, State::Up);
        assert_eq!(ids(told(&mut known, &list(vec![back], true)).await), ["b2", "a"]);
        assert_eq!(ids(told(&mut known, &list(vec![a], false)).await), ["a"]);
    }

    #[tokio::test]
    async fn a_registry_that_has_just_begun_and_knows_nobody_is_waited_for() {
        let nobody = list(Vec::new(), true);
        let mut known = Known { checked: true, told: None, last: None };
        let reason = "it has just begun, and does not know yet who is missing".to_owned();
        assert_eq!(told(&mut known, &nobody).await, Some(Told::Lost { reason }));
        assert_eq!(told(&mut known, &nobody).await, None, "told once");
        let stale = List { stale: Some("no answer yet".into()), ..nobody.clone() };
        assert!(matches!(told(&mut known, &stale).await, Some(Told::Lost { .. })));
        // Who is known from before it began only, and not to get traffic yet, is nobody either.
        let mut unchecked = Known { checked: false, told: None, last: None };
        let restored = list(vec![listed("a", 1, State::Restored)], true);
        assert!(matches!(told(&mut unchecked, &restored).await, Some(Told::Lost { .. })));
        // Somebody is an answer, and so is that nobody is left of them.
        let a = listed("a", 1, State::Up);
        assert_eq!(ids(told(&mut unchecked, &list(vec![a], true)).await), ["a"]);
        let left = List { left: ["a".to_owned()].into(), ..nobody };
        assert!(ids(told(&mut unchecked, &left).await).is_empty());
        // Once it is settled, nobody is an answer.
        let settled = told(&mut known, &list(Vec::new(), false)).await;
        assert_eq!(settled, Some(Told::Endpoints(Vec::new())));
    }

    #[tokio::test]
    async fn who_was_found_before_stays_until_the_registry_is_settled() {
        let before = [listed("a", 1, State::Up), listed("b", 2, State::Up)]
            .map(|listed| endpoint(&listed, true).unwrap());
        let mut known = Known { checked: true, told: Some(before.into()), last: None };
        assert_eq!(ids(told(&mut known, &list(Vec::new(), true)).await), ["a", "b"]);
        let b = listed("b", 2, State::Up);
        assert_eq!(ids(told(&mut known, &list(vec![b.clone()], true)).await), ["b", "a"]);
        assert_eq!(ids(told(&mut known, &list(vec![b], false)).await), ["b"]);
    }
}
