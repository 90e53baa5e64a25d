//! Trying credentials before they are saved.

use jmp_proto::jumpstarter::client::v1 as wire;
use jmp_proto::jumpstarter::client::v1::client_service_client::ClientServiceClient;
use jmp_proto::v1::ListenRequest;
use jmp_proto::v1::controller_service_client::ControllerServiceClient;
use jmp_wire::endpoint::{CONTROLLER_KEEP_ALIVE, CallerKind, Connector, Credentials, Endpoint};
use tonic::Code;

use crate::changes::limited;
use crate::error::{Error, Result};

/// Asks the controller for something small as the client or exporter of these credentials. Nothing is
/// changed there.
///
/// # Errors
///
/// [`Error::Refused`] when they are no good, [`Error::ControllerUnreachable`] when it cannot be asked.
pub async fn check_credentials(
    connector: &Connector,
    endpoint: &Endpoint,
    credentials: &Credentials,
) -> Result<()> {
    let metadata = credentials
        .metadata()
        .map_err(|error| Error::Configuration(error.to_string()))?;
    let connecting = connector.connect(endpoint, metadata, CONTROLLER_KEEP_ALIVE);
    let connection = connecting.await.map_err(Error::ControllerUnreachable)?;
    let origin = connection.origin();
    if credentials.kind == CallerKind::Exporter {
        let mut controller = ControllerServiceClient::with_origin(connection, origin);
        // Exporters have no call that only asks. Nobody listens for a lease without a name, and who
        // asks is found out first.
        let request = ListenRequest::default();
        return match limited("trying the token", controller.listen(request)).await {
            Err(Error::Refused { status, .. }) if is_about_the_request(&status) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        };
    }
    let mut clients = ClientServiceClient::with_origin(connection, origin);
    let request = wire::ListLeasesRequest {
        parent: format!("namespaces/{}", credentials.namespace),
        page_size: 1,
        only_active: Some(true),
        ..Default::default()
    };
    limited("trying the token", clients.list_leases(request))
        .await
        .map(drop)
}

/// Whether the controller knew who asked, and objected to what was asked for only.
fn is_about_the_request(status: &tonic::Status) -> bool {
    matches!(status.code(), Code::Unknown | Code::InvalidArgument)
        && status.message().contains("lease")
}
