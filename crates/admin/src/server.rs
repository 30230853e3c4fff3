//! The admin API over HTTP/1.1.

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::http::{self, Serving};
use crate::{Control, routes};

/// Connections served at once; further ones wait in the kernel's queue. Operators, a scraper or
/// two and probes need a handful.
const CONNECTIONS_MAX: usize = 128;

/// Serves until the future is dropped. Connections then finish the request under way and close.
pub async fn serve(listener: TcpListener, token: Option<String>, control: Arc<dyn Control>) {
    let token: Option<Arc<str>> = token.map(Arc::from);
    let answer = move |_, request| {
        let (token, control) = (token.clone(), Arc::clone(&control));
        async move { routes::answer(request, token.as_deref(), &*control).await.into_response() }
    };
    let serving = Serving { name: "admin", connections_max: CONNECTIONS_MAX };
    http::serve(listener, serving, answer).await;
}

#[cfg(test)]
mod tests;
