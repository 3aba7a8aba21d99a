//! A tonic server that answers without thinking: what gRPC itself costs.

use std::{process::Command, thread, time::Duration};

use aibuyer_proto::serving::v1::{
    self as pb,
    ctr_service_server::{CtrService, CtrServiceServer},
};
use tonic::{Request, Response, Status, Streaming};

use crate::process::Process;

/// Starts it: this program, with other arguments.
pub(crate) fn start(address: &str) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let process = Process::start(command.args(["--echo", address]), address);
    while std::net::TcpStream::connect(address).is_err() {
        thread::sleep(Duration::from_millis(20));
    }
    process
}

struct Echo;

#[tonic::async_trait]
impl CtrService for Echo {
    async fn predict_ctr(
        &self,
        request: Request<pb::PredictCtrRequest>,
    ) -> Result<Response<pb::PredictCtrResponse>, Status> {
        let rows = request.get_ref().candidate_count.unwrap_or_default() as usize;
        let one = pb::CtrPrediction { ctr: Some(0.01), ctr_lower: Some(0.005), ctr_upper: Some(0.02), error: None };
        Ok(Response::new(pb::PredictCtrResponse { predictions: vec![one; rows], ..Default::default() }))
    }

    async fn predict_ctr_encoded(
        &self,
        request: Request<pb::PredictCtrEncodedRequest>,
    ) -> Result<Response<pb::PredictCtrEncodedResponse>, Status> {
        let rows = request.get_ref().candidate_count as usize;
        Ok(Response::new(pb::PredictCtrEncodedResponse {
            ctr: vec![0.01; rows],
            ctr_lower: vec![0.005; rows],
            ctr_upper: vec![0.02; rows],
            ..Default::default()
        }))
    }

    type StreamPredictCtrStream = tokio_stream::Empty<Result<pb::StreamPredictCtrResponse, Status>>;

    /// Not measured.
    async fn stream_predict_ctr(
        &self,
        _: Request<Streaming<pb::StreamPredictCtrRequest>>,
    ) -> Result<Response<Self::StreamPredictCtrStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }
}

/// Serves until killed.
pub(crate) fn serve(address: &str) {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = tonic::transport::Server::builder().tcp_nodelay(true).add_service(CtrServiceServer::new(Echo));
    tokio.block_on(server.serve(address.parse().unwrap())).unwrap();
}
