//! `aibuyer.serving.v1.BudgetService`: where to put a budget. Fits, checks and search run on the executor, so that they
//! delay no click-through rate.

mod plan;
mod problem;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aibuyer_domain::budget::{Effort, Problem, optimise_while};
use aibuyer_loader::executor::{Executor, ExecutorError};
use aibuyer_proto::serving::v1::{self as pb, budget_service_server::BudgetService};
use tonic::{Request, Response, Status};

use crate::{layers::deadline::deadline, status};

/// Plans budgets.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    pub(crate) executor: Executor,
    pub(crate) default_deadline: Duration,
}

#[tonic::async_trait]
impl BudgetService for Budget {
    async fn optimize_budget(
        &self,
        request: Request<pb::OptimizeBudgetRequest>,
    ) -> Result<Response<pb::OptimizeBudgetResponse>, Status> {
        let deadline = deadline(&request, Instant::now(), self.default_deadline)?;
        let request = request.into_inner();
        let rows = problem::rows(&request)?;
        // Held by this call alone: gone when its caller is.
        let caller = Arc::new(());
        let waits = Arc::downgrade(&caller);
        let work = move || {
            // What is left then is for the reply.
            let stop = deadline - deadline.saturating_duration_since(Instant::now()) / 8;
            solve(request, &|| waits.strong_count() > 0 && Instant::now() < stop)
        };
        let done = tokio::time::timeout_at(deadline.into(), self.executor.run(rows, deadline, work)).await;
        drop(caller);
        done.unwrap_or(Err(ExecutorError::DeadlineExceeded)).map_err(|e| status::from_executor(&e))?.map(Response::new)
    }
}

fn solve(request: pb::OptimizeBudgetRequest, go_on: &dyn Fn() -> bool) -> Result<pb::OptimizeBudgetResponse, Status> {
    let pb::OptimizeBudgetRequest { budget, campaigns: asked, relative_gap } = request;
    let gap = problem::gap(relative_gap)?;
    let problem::Read { campaigns, fits } = problem::read(&asked, go_on)?;
    let problem = match Problem::new(budget, campaigns.clone()) {
        Ok(problem) => problem,
        Err(error) => return Err(status::invalid(&problem::violations(&error, &asked, &campaigns))),
    };
    let plan = optimise_while(&problem, Effort { gap, ..Effort::default() }, go_on);
    Ok(plan::reply(plan, fits, &campaigns, gap))
}
