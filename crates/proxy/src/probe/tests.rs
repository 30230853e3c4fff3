use model::Endpoint;
use model::spec::{EndpointSource, HealthSpec, ServiceSpec};
use service::Events;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::*;

#[derive(Debug)]
struct ToDriver(UnboundedSender<ProbeEvent>);

impl Events for ToDriver {
    fn suspect(&self, service: &ServiceName, endpoint: &EndpointId) {
        let _ = self.0.send(ProbeEvent::Suspect(service.clone(), endpoint.clone()));
    }
    fn leaving(&self, _: &ServiceName, _: &Arc<service::EndpointHandle>) {}
    fn staying(&self, _: &ServiceName, _: &Arc<service::EndpointHandle>) {}
    fn changed(&self, service: &ServiceName) {
        let _ = self.0.send(ProbeEvent::Changed(service.clone()));
    }
}

/// A healthy endpoint is found, its end is found, and a forgotten service is left alone.
#[test]
fn endpoints_come_and_go() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let clock = Clock::start();
        let (events, inbox) = unbounded_channel();
        let driver = tokio::spawn(drive(clock, inbox));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::at(listener.local_addr().unwrap());
        let spec = ServiceSpec {
            source: EndpointSource::Static(vec![endpoint]),
            health: HealthSpec {
                interval: Duration::from_millis(100),
                unhealthy_after: 1,
                healthy_after: 1,
                ..HealthSpec::default()
            },
            ..ServiceSpec::new("web".into())
        };
        let notify: Arc<dyn Events> = Arc::new(ToDriver(events.clone()));
        let service = Service::new(&spec, notify, clock.now(), 1);
        let target = Target {
            service: service.clone(),
            latencies: Vec::new().into(),
            secure: Default::default(),
            store: Default::default(),
        };
        events.send(ProbeEvent::Watch(Arc::new(target))).unwrap();
        let becomes = async |healthy: usize| {
            let wait = async {
                while service.healthy() != healthy {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
        };
        becomes(1).await;
        let address = listener.local_addr().unwrap();
        drop(listener);
        becomes(0).await;
        let _again = TcpListener::bind(address).await.unwrap();
        becomes(1).await;
        events.send(ProbeEvent::Forget("web".into())).unwrap();
        drop((events, service, spec));
        driver.abort();
    });
}
