use model::status::{EndpointStatus, ServiceStatus};
use serde::Deserialize;
use serde_json::json;

use super::Call;
use crate::ControlError;
use crate::answer::Answer;

pub(super) fn list(call: &Call<'_>) -> Answer {
    Answer::json(&json!({ "services": call.control.services() }))
}

pub(super) fn show(call: &Call<'_>) -> Answer {
    match service(call) {
        Ok(service) => Answer::json(&service),
        Err(error) => error.into(),
    }
}

pub(super) fn endpoints(call: &Call<'_>) -> Answer {
    match service(call) {
        Ok(service) => Answer::json(&json!({ "endpoints": service.endpoints })),
        Err(error) => error.into(),
    }
}

pub(super) fn endpoint(call: &Call<'_>) -> Answer {
    match find_endpoint(call) {
        Ok(endpoint) => Answer::json(&endpoint),
        Err(error) => error.into(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scale {
    replicas: usize,
}

pub(super) fn scale(call: &Call<'_>) -> Answer {
    let scale: Scale = match call.json(r#"{"replicas": 3}"#) {
        Ok(scale) => scale,
        Err(refusal) => return refusal,
    };
    match call.control.scale(call.service(), scale.replicas) {
        Ok(replicas) => Answer::json(&json!({ "service": call.service(), "replicas": replicas })),
        Err(error) => error.into(),
    }
}

pub(super) fn drain(call: &Call<'_>) -> Answer {
    changed(call, call.control.drain(call.service(), call.endpoint()))
}

pub(super) fn undrain(call: &Call<'_>) -> Answer {
    changed(call, call.control.undrain(call.service(), call.endpoint()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    // Names its function so that a missing field is an error and only `null` means none.
    #[serde(deserialize_with = "Option::deserialize")]
    weight: Option<u16>,
}

pub(super) fn patch_endpoint(call: &Call<'_>) -> Answer {
    let patch: Patch = match call.json(r#"{"weight": 3} (0 to 65535) or {"weight": null}"#) {
        Ok(patch) => patch,
        Err(refusal) => return refusal,
    };
    changed(call, call.control.set_weight(call.service(), call.endpoint(), patch.weight))
}

/// The endpoint as it is after a change.
fn changed(call: &Call<'_>, outcome: Result<(), ControlError>) -> Answer {
    match outcome.and_then(|()| find_endpoint(call)) {
        Ok(endpoint) => Answer::json(&endpoint),
        Err(error) => error.into(),
    }
}

fn service(call: &Call<'_>) -> Result<ServiceStatus, ControlError> {
    let name = call.service();
    call.control
        .service(name)
        .ok_or_else(|| ControlError::NotFound(format!("there is no service {name:?}")))
}

fn find_endpoint(call: &Call<'_>) -> Result<EndpointStatus, ControlError> {
    let (service, id) = (service(call)?, call.endpoint());
    service.endpoints.into_iter().find(|endpoint| endpoint.id == id).ok_or_else(|| {
        ControlError::NotFound(format!("service {:?} has no endpoint {id:?}", service.name))
    })
}
