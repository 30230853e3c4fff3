use std::fs;

use model::spec::AcmeChallenge;

use super::*;

const CA: &str = "https://ca.test/dir";
const DOMAIN: &str = "a.test";

struct Bench {
    root: PathBuf,
    site: Site,
    // Its domains stay the same while it is held.
    _domains: watch::Sender<Domains>,
}

impl Bench {
    fn new(name: &str) -> Self {
        let root =
            std::env::temp_dir().join(format!("evenkeel-site-{name}-{}", std::process::id()));
        let (domains, receiver) = watch::channel(Domains::from([(DOMAIN.into(), None)]));
        let spec = AcmeSpec {
            directory: CA.into(),
            domains: Vec::new(),
            from_routes: false,
            email: None,
            challenge: AcmeChallenge::TlsAlpn01,
            ca: None,
            eab: None,
            store: Some(root.clone()),
            renew_before: None,
        };
        let site = Site {
            spec,
            root: root.clone(),
            owner: "one".into(),
            domains: receiver,
            wishes: Arc::default(),
            issued: Arc::default(),
            board: Board::default(),
            rng: Rng::from_seed(7),
            known: HashMap::new(),
            complained: None,
            looking: None,
            begun: std::time::Instant::now(),
        };
        Self { root, site, _domains: domains }
    }

    fn open(&self) -> Store {
        Store::open(&self.root, CA, "one".into()).unwrap()
    }

    fn plan(&self) -> &Plan {
        &self.site.known[DOMAIN].plan
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn issued() -> String {
    let made = rcgen::generate_simple_self_signed([DOMAIN.to_owned()]).unwrap();
    made.cert.pem() + &made.signing_key.serialize_pem()
}

/// A file takes the place of the folder of certificates: permissions do not bind root.
fn breaks(store: &Store) -> PathBuf {
    let folder = store.files(DOMAIN)[0].parent().unwrap().to_owned();
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    folder
}

fn mends(folder: &PathBuf) {
    fs::remove_file(folder).unwrap();
    fs::create_dir(folder).unwrap();
}

#[test]
fn what_was_issued_and_cannot_be_kept_is_used_and_not_ordered_again() {
    let mut bench = Bench::new("unkept");
    let store = bench.open();
    assert_eq!(bench.site.look(&store).unwrap(), [DOMAIN]);
    let folder = breaks(&store);
    let pem = issued();
    bench.site.settle(&store, DOMAIN, Outcome::Issued(pem.clone())).unwrap_err();
    assert!(bench.site.known[DOMAIN].held.is_some());
    assert_eq!(bench.plan().failures, 1);
    assert!(bench.plan().last.as_ref().unwrap().reason.contains("cannot be kept"));
    assert!(bench.plan().order_at() > now() + Duration::from_secs(86_400));
    bench.site.look(&store).unwrap_err();
    assert_ne!(bench.plan().due(now()), Due::Order);
    assert_eq!(bench.site.board.lock().unwrap()[DOMAIN].failed, 1);
    // It is kept as soon as that can be done, and all is well.
    mends(&folder);
    bench.site.look(&store).unwrap();
    assert_eq!(store.certificate_of(DOMAIN).unwrap(), Some(pem));
    assert_ne!(bench.plan().due(now()), Due::Order);
    assert_eq!((bench.plan().failures, &bench.plan().last), (0, &None));
}

#[test]
fn what_another_balancer_kept_meanwhile_stays() {
    let mut bench = Bench::new("meanwhile");
    let store = bench.open();
    bench.site.look(&store).unwrap();
    let folder = breaks(&store);
    bench.site.settle(&store, DOMAIN, Outcome::Issued(issued())).unwrap_err();
    mends(&folder);
    let others = issued();
    store.keep_certificate(DOMAIN, &others).unwrap();
    bench.site.look(&store).unwrap();
    assert_eq!(store.certificate_of(DOMAIN).unwrap(), Some(others));
    assert!(bench.site.known[DOMAIN].unkept.is_none());
}

#[test]
fn what_is_issued_broken_and_cannot_be_kept_waits_longer_each_time() {
    let mut bench = Bench::new("broken");
    let store = bench.open();
    bench.site.look(&store).unwrap();
    breaks(&store);
    for failures in 1..4 {
        bench.site.settle(&store, DOMAIN, Outcome::Issued("no PEM".into())).unwrap_err();
        assert_eq!(bench.plan().failures, failures);
        let wait = Duration::from_secs(115 << (failures - 1));
        assert!(bench.plan().order_at() > now() + wait, "{:?}", bench.plan());
    }
}

#[tokio::test]
async fn nothing_is_ordered_while_nothing_can_be_kept() {
    let mut bench = Bench::new("probe");
    let store = bench.open();
    let due = bench.site.look(&store).unwrap();
    store.probe().unwrap();
    breaks(&store);
    // No CA is spoken to, with which it would have failed otherwise.
    bench.site.order_all(&store, &due).await.unwrap_err();
    assert_eq!(bench.plan().failures, 0);
}

#[tokio::test]
async fn an_order_whose_lease_cannot_be_kept_counts() {
    let mut bench = Bench::new("lease");
    let store = bench.open();
    bench.site.look(&store).unwrap();
    // Nor is there a folder for its lock.
    fs::remove_dir_all(&bench.root).unwrap();
    bench.site.beating(&store, DOMAIN, Due::Order, &mut None).await.unwrap_err();
    assert_eq!(bench.plan().failures, 1);
    assert!(matches!(bench.plan().due(now()), Due::At(_)));
}
