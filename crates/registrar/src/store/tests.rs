use model::spec::{ClientTlsSpec, EmbeddedRegistrySpec, RegistryDataSpec};
use registry::Registration;
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio::time::sleep;

use super::fake_etcd::{member, plain, serve};
use super::*;
use crate::Registrar;

/// Where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:1";

fn spec(url: &str) -> RegistryStoreSpec {
    let (prefix, tls) = ("p/".to_owned(), ClientTlsSpec::default());
    RegistryStoreSpec::Etcd { endpoints: vec![url.to_owned()], prefix, tls, user: None }
}

async fn registrar(url: &str) -> Registrar {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let spec = EmbeddedRegistrySpec {
        data: RegistryDataSpec::Off,
        store: Some(spec(url)),
        ..EmbeddedRegistrySpec::default()
    };
    Registrar::start(&spec, Path::new("."), listener).unwrap()
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), wait).await.unwrap();
}

fn pending(of: u64) -> Pending {
    Pending { of, until: std::time::Instant::now() + registry::TTL_MAX }
}

/// One whose store has answered.
async fn answered(url: &str) -> Registrar {
    let registrar = registrar(url).await;
    let keeper = registrar.keeper();
    until(|| keeper.store.as_ref().unwrap().lost().is_none()).await;
    registrar
}

#[tokio::test]
async fn who_was_never_there_is_not_kept_in_mind() {
    let registrar = registrar(NOWHERE).await;
    let keeper = registrar.keeper();
    for number in 0..3 {
        keeper.deregister("web", &format!("nobody-{number}")).await.unwrap_err();
    }
    assert_eq!(keeper.store.as_ref().unwrap().state().order.len(), 0);
}

#[tokio::test]
async fn a_registration_that_fails_leaves_the_one_before_to_be_taken_out() {
    let instance = Instance::new("web", Registration::on(80), "a", [10, 0, 0, 1].into()).unwrap();
    let key = || ("web".to_owned(), "a".to_owned());
    let leaves = |store: &Shared| store.state().leaves.len();
    let away = Shared::new(&spec(NOWHERE), Path::new(".")).unwrap();
    away.state().leaves.insert(key(), pending(5));
    away.put(&instance).await.unwrap_err();
    assert_eq!(leaves(&away), 1);

    let store = Shared::new(&spec(&member().await), Path::new(".")).unwrap();
    store.state().leaves.insert(key(), pending(5));
    assert_eq!(store.put(&instance).await, Ok(7));
    assert_eq!(leaves(&store), 0);
    // What left after that, while the answer was on its way.
    store.state().leaves.insert(key(), pending(7));
    assert_eq!(store.put(&instance).await, Ok(7));
    assert_eq!(leaves(&store), 1);
}

/// The store never answers, and who asks is gone before we have given it up.
#[tokio::test]
async fn that_somebody_left_outlives_who_said_so() {
    let url = serve(|path, _| async move {
        if ["/v3/watch", "/v3/kv/txn"].contains(&&*path) {
            std::future::pending::<()>().await;
        }
        plain(&path)
    })
    .await;
    let registrar = answered(&url).await;
    let keeper = registrar.keeper();
    let store = keeper.store.as_ref().unwrap();
    let instance = Instance::new("web", Registration::on(80), "a", [10, 0, 0, 1].into()).unwrap();
    keeper.registry().hold(instance, keeper.now()).unwrap();
    let asked = keeper.deregister("web", "a");
    // Polled once, and then dropped, as that of a client that closes its connection is.
    assert!(timeout(Duration::ZERO, asked).await.is_err());
    assert!(keeper.registry().find("web", "a", keeper.now()).is_none());
    assert_eq!(store.state().leaves.len(), 1);
}

/// The store answers none of them before it was told of both.
#[tokio::test]
async fn those_that_left_are_told_at_once() {
    let both = Arc::new(Barrier::new(2));
    let url = serve(move |path, _| {
        let both = Arc::clone(&both);
        async move {
            match &*path {
                "/v3/watch" => std::future::pending().await,
                "/v3/kv/txn" => {
                    both.wait().await;
                }
                _ => {}
            }
            plain(&path)
        }
    })
    .await;
    let registrar = answered(&url).await;
    let keeper = registrar.keeper();
    let store = keeper.store.as_ref().unwrap();
    for id in ["a", "b"] {
        store.state().leaves.insert(("web".into(), id.into()), pending(5));
    }
    until(|| store.state().leaves.is_empty()).await;
}

#[test]
fn keys_and_values_that_are_not_ours_are_left_alone() {
    for (key, expected) in [
        ("p/web/web-1", Some(("web", "web-1"))),
        ("p/web/10.0.0.1:80", Some(("web", "10.0.0.1:80"))),
        ("p/web", None),
        ("p/web/", None),
        ("p/web/a/b", None),
        ("q/web/a", None),
        ("p//a", None),
        ("", None),
    ] {
        assert_eq!(parse_key(key, "p/"), expected, "{key}");
    }
    let instance = Instance::new("web", Registration::on(80), "a", [10, 0, 0, 1].into()).unwrap();
    let json = serde_json::to_vec(&instance).unwrap();
    assert!(matches!(parse_value("web", "a", &json), Some(Value::Instance(_))));
    assert!(parse_value("web", "b", &json).is_none(), "another's key");
    assert!(parse_value("web", "a", b"{}").is_none());
    assert!(parse_value("web", "a", b"\xff").is_none());
    for (value, expected) in [
        (&tombstone(7)[..], Some(7)),
        // As balancers wrote it that did not know of what.
        (br#"{"left":true}"#, None),
    ] {
        let read = parse_value("web", "a", value);
        assert!(matches!(read, Some(Value::Tombstone { of }) if of == expected));
    }
    assert!(parse_value("web", "a", br#"{"left":false}"#).is_none());
    let portless = Instance { port: 0, ..instance };
    assert!(parse_value("web", "a", &serde_json::to_vec(&portless).unwrap()).is_none());
}
