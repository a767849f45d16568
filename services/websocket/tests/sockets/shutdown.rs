//! An instance that drains.

use flack_testing::Nats;

use crate::server::Server;

#[tokio::test]
async fn a_draining_instance_closes_every_connection_with_1012_also_one_before_hello() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut clients = [server.anonymous().await, server.user(7).await, server.connect().await];
    server.background.stopping().cancel();
    for client in &mut clients {
        assert_eq!(u16::from(client.closed().await.code), 1012);
    }
}
