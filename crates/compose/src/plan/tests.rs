use super::*;
use crate::read::tests::checked;

const FILE: &str = "\
services:
  web: { image: w, ports: [\"8080:5000\"], depends_on: { db: { condition: service_healthy } } }
  db: { image: d, volumes: [\"data:/d\"] }
volumes: { data: }
";

fn container(service: &str, number: u32, hash: &str, state: &str) -> Observed {
    Observed {
        id: format!("{service}{number}"),
        name: format!("project-{service}-{number}"),
        service: service.into(),
        number,
        hash: hash.into(),
        state: state.into(),
        ..Observed::default()
    }
}

/// What is done for [`FILE`], each action as one word and its object.
fn check(containers: Vec<Observed>, wanted: Wanted, expected: &[&str]) -> Plan {
    check_file(FILE, containers, wanted, expected)
}

fn check_file(file: &str, containers: Vec<Observed>, wanted: Wanted, expected: &[&str]) -> Plan {
    let project = checked(file).project;
    let services = concerned(&project, &wanted.services).unwrap();
    let there = There {
        networks: Named::from([("project_default".into(), Default::default())]),
        volumes: Named::from([("project_data".into(), Default::default())]),
        hashes: ["web", "db"].map(|name| (name.into(), "now".into())).into(),
        containers,
    };
    let plan = plan(&project, &services, &wanted, &there);
    let shown: Vec<String> = plan.actions.iter().map(shown).collect();
    assert_eq!(shown, expected);
    plan
}

fn shown(action: &Action) -> String {
    match action {
        Action::CreateNetwork(name) => format!("network {name}"),
        Action::CreateVolume(name) => format!("volume {name}"),
        Action::Await { service, condition, .. } => format!("await {service} {condition:?}"),
        Action::Create { service, number } => format!("create {service} {number}"),
        Action::Start { container } => format!("start {container}"),
        Action::Replace { old, number, start_first, .. } => {
            format!("replace {old} by {number}{}", if *start_first { " first" } else { "" })
        }
        Action::Remove { container } => format!("remove {container}"),
    }
}

fn scale(service: &str, count: usize) -> Wanted {
    Wanted { scales: [(service.to_owned(), count)].into(), ..Wanted::default() }
}

#[test]
fn from_nothing_those_that_others_need_come_first() {
    check(Vec::new(), Wanted::default(), &["create db 1", "await db Healthy", "create web 1"]);
    check(Vec::new(), scale("web", 0), &["create db 1"]);
    let project = checked(FILE).project;
    let services = concerned(&project, &BTreeSet::new()).unwrap();
    let plan = plan(&project, &services, &Wanted::default(), &There::default());
    let shown: Vec<String> = plan.actions.iter().map(shown).collect();
    assert_eq!(shown[..2], ["network default", "volume data"]);
}

#[test]
fn what_is_as_it_should_be_is_not_touched() {
    let there =
        || vec![container("db", 1, "now", "running"), container("web", 1, "now", "running")];
    check(there(), Wanted::default(), &[]);
    check(there(), scale("web", 3), &["await db Healthy", "create web 2", "create web 3"]);
    let both = Wanted { recreate: true, ..Wanted::default() };
    // A database that writes to a volume cannot run twice at once.
    check(there(), both, &["replace db1 by 1", "await db Healthy", "replace web1 by 2 first"]);
}

#[test]
fn fewer_and_the_highest_number_goes_first() {
    let there = |states: [&str; 3]| {
        let mut all = vec![container("db", 1, "now", "running")];
        all.extend((1..).zip(states).map(|(number, state)| container("web", number, "now", state)));
        all
    };
    let one = || scale("web", 1);
    let running = there(["running"; 3]);
    check(running, one(), &["await db Healthy", "remove web3", "remove web2"]);
    // One that runs stays before one that does not.
    let stopped = there(["exited", "running", "exited"]);
    check(stopped, one(), &["await db Healthy", "remove web3", "remove web1"]);
    let gone = there(["exited"; 3]);
    check(gone, scale("web", 3), &["await db Healthy", "start web1", "start web2", "start web3"]);
}

#[test]
fn an_old_configuration_is_replaced_and_numbers_are_not_given_twice() {
    let db = || container("db", 1, "now", "running");
    let old =
        vec![db(), container("web", 1, "old", "running"), container("web", 3, "old", "exited")];
    check(
        old,
        scale("web", 3),
        &["await db Healthy", "replace web1 by 2 first", "replace web3 by 3", "create web 4"],
    );
    // docker-compose has published on it what the balancer is to listen on.
    let mut holding = container("web", 1, "now", "running");
    holding.published = vec![(8080, "tcp".into())];
    check(vec![db(), holding], Wanted::default(), &["await db Healthy", "replace web1 by 2 first"]);
}

#[test]
fn orphans_are_told_of_and_removed_if_asked_for() {
    let there = || {
        let current = ["db", "web"].map(|name| container(name, 1, "now", "running"));
        let mut all = current.to_vec();
        all.push(container("gone", 1, "x", "running"));
        all
    };
    let plan = check(there(), Wanted::default(), &[]);
    assert!(plan.notes[0].contains("--remove-orphans"), "{:?}", plan.notes);
    let wanted = Wanted { remove_orphans: true, ..Wanted::default() };
    check(there(), wanted, &["remove gone1"]);
}

#[test]
fn named_services_bring_what_they_depend_on() {
    let project = checked(FILE).project;
    let names = |named: &[&str]| -> Result<Vec<String>, String> {
        let named = named.iter().map(|name| (*name).to_owned()).collect();
        let services = concerned(&project, &named)?;
        Ok(services.iter().map(|service| service.name.clone()).collect())
    };
    assert_eq!(names(&["web"]).unwrap(), ["db", "web"]);
    assert_eq!(names(&["db"]).unwrap(), ["db"]);
    assert_eq!(names(&["wbe"]), Err("wbe".into()));
}

#[test]
fn every_plan_once_done_leaves_nothing_to_do() {
    let mut rng = model::Rng::from_seed(11);
    for _ in 0..2_000 {
        let mut containers = Vec::new();
        for service in ["web", "db"] {
            for number in 1..=rng.below(4) as u32 {
                let hash = ["now", "old"][rng.below(2) as usize];
                let state = ["running", "exited", "created"][rng.below(3) as usize];
                containers.push(container(service, number, hash, state));
            }
        }
        let wanted = scale("web", rng.below(4) as usize);
        let project = checked(FILE).project;
        let services = concerned(&project, &BTreeSet::new()).unwrap();
        let mut there = There {
            networks: Named::from([("project_default".into(), Default::default())]),
            volumes: Named::from([("project_data".into(), Default::default())]),
            hashes: ["web", "db"].map(|name| (name.into(), "now".into())).into(),
            containers,
        };
        for action in plan(&project, &services, &wanted, &there).actions {
            let all = &mut there.containers;
            match action {
                Action::Create { service, number } => {
                    assert!(!all.iter().any(|c| c.service == service && c.number == number));
                    all.push(container(&service, number, "now", "running"));
                }
                Action::Start { container } => {
                    let started = all.iter_mut().find(|c| c.id == container).unwrap();
                    started.state = "running".into();
                }
                Action::Replace { service, old, number, .. } => {
                    all.retain(|c| c.id != old);
                    all.push(container(&service, number, "now", "running"));
                }
                Action::Remove { container } => all.retain(|c| c.id != container),
                Action::Await { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        let again = plan(&project, &services, &wanted, &there);
        assert_eq!(again.actions, [], "{there:?}");
    }
}
