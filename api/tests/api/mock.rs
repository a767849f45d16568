//! The mock server that the tests of a service's callers use.

use flack_api::{
    Context, Problem,
    users::{UsersApi, UsersClient, mock::MockServerExt},
};
use httpmock::MockServer;

use crate::support::{http, new_user, user};

#[tokio::test]
async fn the_client_understands_the_mock_server() {
    let server = MockServer::start_async().await;
    let client = UsersClient::new(&server.base_url(), http());
    let context = Context::background();

    let found = server.get_user(|when, then| {
        when.id(1);
        then.ok(&user(1, "alice"));
    });
    let missing = server.get_user(|when, then| {
        when.id(2);
        then.not_found(&Problem::not_found("nobody has this id"));
    });
    // The mock does not add declared headers.
    let body = new_user("alice");
    let created = server.create_user(|when, then| {
        when.body(&body);
        then.created(&user(1, "alice")).into_inner().header("location", "/api/users/1");
    });

    assert_eq!(client.get_user(&context, None, 1).await.unwrap(), user(1, "alice"));
    let problem = client.get_user(&context, None, 2).await.unwrap_err();
    assert_eq!((problem.status, problem.detail.as_str()), (404, "nobody has this id"));
    assert_eq!(client.create_user(&context, body.clone()).await.unwrap().location, "/api/users/1");
    for mock in [found, missing, created] {
        mock.assert();
    }
}
