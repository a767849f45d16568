//! A server that goes away says so, and its clients lose nothing.

use crate::{nats::Nats, server::Server};

#[tokio::test]
async fn at_shutdown_every_connection_is_closed_with_1012_also_one_that_has_not_said_hello() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut clients = [server.listener().await, server.user(7).await, server.connect().await];
    server.background.stopping().cancel();
    for client in &mut clients {
        assert_eq!(u16::from(client.closed().await.code), 1012);
    }
}
