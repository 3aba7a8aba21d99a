//! A real tonic server that does as it is told.

use std::sync::Arc;

use aibuyer_loadtest::{client::Target, requests::Pool};
use aibuyer_proto::serving::v1::{
    self as pb,
    ctr_service_server::{CtrService, CtrServiceServer},
    stream_predict_ctr_request::Form,
    stream_predict_ctr_response::Result as Outcome,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status};

/// Named requests are answered, or refused if they ask for a model; encoded ones wait for a permit.
struct Server(Arc<Semaphore>);

#[tonic::async_trait]
impl CtrService for Server {
    async fn predict_ctr(
        &self,
        request: Request<pb::PredictCtrRequest>,
    ) -> Result<Response<pb::PredictCtrResponse>, Status> {
        let deadline = request.metadata().get("grpc-timeout").map(|v| v.to_str().unwrap().to_owned());
        match &request.get_ref().model {
            Some(model) => Err(Status::not_found(format!("no „{}“; deadline {deadline:?}", model.name))),
            None => Ok(Response::new(pb::PredictCtrResponse { interval_level: Some(0.9), ..Default::default() })),
        }
    }

    async fn predict_ctr_encoded(
        &self,
        _: Request<pb::PredictCtrEncodedRequest>,
    ) -> Result<Response<pb::PredictCtrEncodedResponse>, Status> {
        self.0.acquire().await.unwrap().forget();
        Ok(Response::new(pb::PredictCtrEncodedResponse::default()))
    }

    type StreamPredictCtrStream = ReceiverStream<Result<pb::StreamPredictCtrResponse, Status>>;

    /// As the calls, in any order; a model „end“ ends the stream.
    async fn stream_predict_ctr(
        &self,
        requests: Request<tonic::Streaming<pb::StreamPredictCtrRequest>>,
    ) -> Result<Response<Self::StreamPredictCtrStream>, Status> {
        let (out, answers) = mpsc::channel(1000);
        let (permits, mut requests) = (Arc::clone(&self.0), requests.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if matches!(&request.form, Some(Form::Named(r)) if r.model.as_ref().is_some_and(|m| m.name == "end")) {
                    let _ = out.send(Err(Status::unavailable("stops"))).await;
                    return;
                }
                let (out, permits) = (out.clone(), Arc::clone(&permits));
                tokio::spawn(async move {
                    let result = Some(outcome(&request, &permits).await);
                    let _ = out.send(Ok(pb::StreamPredictCtrResponse { id: request.id, result })).await;
                });
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

async fn outcome(request: &pb::StreamPredictCtrRequest, permits: &Semaphore) -> Outcome {
    match &request.form {
        Some(Form::Named(pb::PredictCtrRequest { model: Some(model), .. })) => {
            let message = format!("no „{}“; timeout {:?}", model.name, request.timeout_micros);
            Outcome::Error(tonic_types::pb::Status { code: 5, message, details: vec![] })
        }
        Some(Form::Named(_)) => Outcome::Named(pb::PredictCtrResponse::default()),
        _ => {
            permits.acquire().await.unwrap().forget();
            Outcome::Encoded(pb::PredictCtrEncodedResponse::default())
        }
    }
}

/// A server with so many permits, where to reach it, and its permits.
pub(crate) async fn serve(permits: usize, method: &str) -> (Target, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(permits));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = CtrServiceServer::new(Server(Arc::clone(&permits)));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (Target { address, path: method.to_owned(), deadline: None }, permits)
}

pub(crate) fn pool(method: &str) -> Pool {
    Pool::new(method, [Vec::new()], Some(1.0))
}
