//! A policy that asks endpoints how they are.

use std::time::Duration;

use model::spec::{HealthKind, PolicySpec};
use model::{Instant, Outcome, Report};

use super::*;

/// With a path, the policy's probes reach whoever runs the service; without one there are none.
#[test]
fn a_policy_asks_only_where_it_is_told_to() {
    #[derive(Default)]
    struct Asked(Mutex<Vec<(String, String)>>);
    impl Events for Asked {
        fn suspect(&self, _: &ServiceName, _: &EndpointId) {}
        fn leaving(&self, _: &ServiceName, _: &Arc<EndpointHandle>) {}
        fn staying(&self, _: &ServiceName, _: &Arc<EndpointHandle>) {}
        fn changed(&self, _: &ServiceName) {}
        fn probe(&self, _: &ServiceName, endpoint: &Arc<EndpointHandle>, path: &Arc<str>) {
            self.0.lock().unwrap().push((endpoint.id.to_string(), path.to_string()));
        }
    }
    for (probe, expected) in [("/load", 300), ("off", 0)] {
        let mut spec = ServiceSpec::new("web".into());
        let endpoints = (1..=20).map(|port| Endpoint::at(([10, 0, 0, 1], port).into()));
        spec.source = EndpointSource::Static(endpoints.collect());
        spec.health.kind = HealthKind::Off;
        let probe = model::vocabulary::OptionValue::Text(probe.into());
        spec.policy = PolicySpec { name: "prequal".into(), options: vec![("probe".into(), probe)] };
        let asked = Arc::new(Asked::default());
        let service = Service::new(&spec, asked.clone(), Instant::ZERO, 1);
        let mut rng = Rng::from_seed(1);
        for _ in 0..100 {
            let request = Request { now: Instant::ZERO, key: None, exclude: &[] };
            let pick = service.pick(&request, &mut rng).unwrap();
            pick.report(&Report::new(Instant::ZERO, Outcome::Success));
        }
        let asked = asked.0.lock().unwrap();
        assert_eq!(asked.len(), expected);
        assert!(asked.iter().all(|(_, path)| path == "/load"), "{asked:?}");
    }
}

/// After a quiet time the policy asks, too; that is due when it says, and picks put it off.
#[test]
fn a_policy_asks_after_a_quiet_time() {
    #[derive(Default)]
    struct Asked(Mutex<Vec<String>>, Mutex<u32>);
    impl Events for Asked {
        fn suspect(&self, _: &ServiceName, _: &EndpointId) {}
        fn leaving(&self, _: &ServiceName, _: &Arc<EndpointHandle>) {}
        fn staying(&self, _: &ServiceName, _: &Arc<EndpointHandle>) {}
        fn changed(&self, _: &ServiceName) {
            *self.1.lock().unwrap() += 1;
        }
        fn probe(&self, _: &ServiceName, endpoint: &Arc<EndpointHandle>, _: &Arc<str>) {
            self.0.lock().unwrap().push(endpoint.id.to_string());
        }
    }
    let mut spec = ServiceSpec::new("web".into());
    let endpoints = (1..=20).map(|port| Endpoint::at(([10, 0, 0, 1], port).into()));
    spec.source = EndpointSource::Static(endpoints.collect());
    spec.health.kind = HealthKind::Off;
    let events = Arc::new(Asked::default());
    let mut now = Instant::ZERO + Duration::from_secs(9);
    let service = Service::new(&spec, events.clone(), now, 1);
    let asked = || std::mem::take(&mut *events.0.lock().unwrap()).len();
    assert_eq!((service.poll_timeout(), asked()), (None, 0));
    let probe = model::vocabulary::OptionValue::Text("/load".into());
    let idle = model::vocabulary::OptionValue::Duration(Duration::from_millis(400));
    let options = vec![("probe".into(), probe), ("probe_idle".into(), idle)];
    spec.policy = PolicySpec { name: "prequal".into(), options };
    let told = *events.1.lock().unwrap();
    service.update(&spec, now);
    assert!(*events.1.lock().unwrap() > told, "whoever polls must look again");
    assert_eq!(asked(), 3, "at once: nothing is known");
    for _ in 0..5 {
        let due = service.poll_timeout().unwrap();
        assert_eq!(due, now + Duration::from_millis(400));
        service.due_checks(now + Duration::from_millis(399));
        assert_eq!(asked(), 0, "too early");
        now = due;
        service.due_checks(now);
        assert_eq!(asked(), 3);
    }
    now += Duration::from_millis(300);
    let request = Request { now, key: None, exclude: &[] };
    let pick = service.pick(&request, &mut Rng::from_seed(1)).unwrap();
    pick.report(&Report::new(now, Outcome::Success));
    assert_eq!(asked(), 3);
    service.due_checks(now + Duration::from_millis(100));
    assert_eq!(asked(), 0, "a pick has put it off");
    assert_eq!(service.poll_timeout(), Some(now + Duration::from_millis(400)));
    service.close(now);
    assert_eq!(service.poll_timeout(), None);
}
