//! `keevo.admin.v1.Moderation` over the node's moderation.
//!
//! Invariant: the service decides nothing; it translates.

use std::fmt;

use keevo_core::{Engine, Error, Result};
use keevo_moderation_policy::{Action, Decision, Policy, QUEUE_PAGE_MAX, Ruling, Term, TextKind, Verdict};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::moderation_server::{Moderation as ModerationApi, ModerationServer};
use keevo_proto::status_from_error;
use tonic::{Request, Response, Status};

use crate::moderation::Moderation;

const LIMIT_DEFAULT: usize = 100;

/// The service of one node.
pub struct ModerationService<E> {
    moderation: Moderation<E>,
}

impl<E> fmt::Debug for ModerationService<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModerationService")
    }
}

impl<E: Engine> ModerationService<E> {
    /// The service over a node's moderation, ready to be added to a server.
    pub fn server(moderation: Moderation<E>) -> ModerationServer<Self> {
        ModerationServer::new(Self { moderation })
    }
}

fn answer<T>(result: Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status_from_error(&error))
}

fn limit(asked: u32) -> usize {
    if asked == 0 { LIMIT_DEFAULT } else { usize::try_from(asked).unwrap_or(usize::MAX) }
}

fn after(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn kind(name: &str) -> Result<TextKind> {
    let unknown = || Error::invalid(format!("a text is a message, activity, reaction or text, not a '{name}'"));
    TextKind::from_name(name).ok_or_else(unknown)
}

fn told(verdict: Verdict) -> pb::Verdict {
    let version = verdict.version;
    let kind = version.kind.name();
    pb::Verdict {
        kind: kind.to_owned(),
        id: version.id,
        scope: version.scope,
        author: version.author,
        text: version.text,
        at_ms: version.at_ms,
        action: verdict.action.name().to_owned(),
        reasons: serde_json::to_string(&verdict.reasons).unwrap_or_default(),
        scores: verdict.scores.into_iter().collect(),
        model: verdict.model,
        masked: verdict.masked,
        judged_ms: verdict.judged_ms,
    }
}

fn terms(words: Vec<String>, parts: Vec<String>) -> Vec<Term> {
    words.into_iter().map(Term::word).chain(parts.into_iter().map(Term::part)).collect()
}

#[tonic::async_trait]
impl<E: Engine> ModerationApi for ModerationService<E> {
    async fn get_moderation_policy(
        &self,
        request: Request<pb::GetModerationPolicyRequest>,
    ) -> Result<Response<pb::GetModerationPolicyResponse>, Status> {
        let app = request.into_inner().app;
        let policies = self.moderation.moderator().policies();
        let found = async { Ok((policies.policy(app).await?, policies.blocklists(app).await?)) }.await;
        answer(found.map(|(policy, lists)| pb::GetModerationPolicyResponse {
            policy: serde_json::to_string(&policy).unwrap_or_default(),
            blocklists: lists.into_iter().collect(),
        }))
    }

    async fn set_moderation_policy(
        &self,
        request: Request<pb::SetModerationPolicyRequest>,
    ) -> Result<Response<pb::SetModerationPolicyResponse>, Status> {
        let pb::SetModerationPolicyRequest { app, policy } = request.into_inner();
        let policies = self.moderation.moderator().policies();
        let set = async { policies.set_policy(app, Policy::from_json(&policy)?).await };
        answer(set.await.map(|()| pb::SetModerationPolicyResponse {}))
    }

    async fn get_blocklist(
        &self,
        request: Request<pb::GetBlocklistRequest>,
    ) -> Result<Response<pb::GetBlocklistResponse>, Status> {
        let pb::GetBlocklistRequest { app, name } = request.into_inner();
        let found = self.moderation.moderator().policies().blocklist(app, &name).await;
        answer(found.map(|terms| {
            let (words, parts): (Vec<Term>, Vec<Term>) = terms.into_iter().partition(|term| term.whole_word);
            let texts = |terms: Vec<Term>| terms.into_iter().map(|term| term.text).collect();
            pb::GetBlocklistResponse { words: texts(words), parts: texts(parts) }
        }))
    }

    async fn set_blocklist(
        &self,
        request: Request<pb::SetBlocklistRequest>,
    ) -> Result<Response<pb::SetBlocklistResponse>, Status> {
        let pb::SetBlocklistRequest { app, name, words, parts } = request.into_inner();
        let set = self.moderation.moderator().policies().set_blocklist(app, &name, terms(words, parts)).await;
        answer(set.map(|()| pb::SetBlocklistResponse {}))
    }

    async fn remove_blocklist(
        &self,
        request: Request<pb::RemoveBlocklistRequest>,
    ) -> Result<Response<pb::RemoveBlocklistResponse>, Status> {
        let pb::RemoveBlocklistRequest { app, name } = request.into_inner();
        let removed = self.moderation.moderator().policies().remove_blocklist(app, &name).await;
        answer(removed.map(|()| pb::RemoveBlocklistResponse {}))
    }

    async fn list_review_queue(
        &self,
        request: Request<pb::ListReviewQueueRequest>,
    ) -> Result<Response<pb::ListReviewQueueResponse>, Status> {
        use pb::list_review_queue_response::Entry;
        let request = request.into_inner();
        let page = async {
            let verdicts = self.moderation.moderator().verdicts().await?;
            verdicts.queue(request.app, limit(request.limit), after(&request.after)).await
        };
        answer(page.await.map(|page| pb::ListReviewQueueResponse {
            entries:
                page.entries.into_iter().map(|one| Entry { id: one.id, verdict: Some(told(one.verdict)) }).collect(),
            next: page.next.unwrap_or_default(),
        }))
    }

    async fn decide(&self, request: Request<pb::DecideRequest>) -> Result<Response<pb::DecideResponse>, Status> {
        let pb::DecideRequest { app, id, decision, reviewer, labels, note } = request.into_inner();
        let decided = async {
            let decision = Decision { ruling: Ruling::from_name(&decision)?, reviewer, labels, note };
            let verdicts = self.moderation.moderator().verdicts().await?;
            verdicts.decide(app, &id, decision, self.moderation.effects()).await
        };
        answer(decided.await.map(|decided| pb::DecideResponse { decided_ms: decided.decided_ms }))
    }

    async fn list_labels(
        &self,
        request: Request<pb::ListLabelsRequest>,
    ) -> Result<Response<pb::ListLabelsResponse>, Status> {
        let request = request.into_inner();
        let page = async {
            let verdicts = self.moderation.moderator().verdicts().await?;
            verdicts.labels(request.app, limit(request.limit), after(&request.after)).await
        };
        answer(page.await.map(|page| {
            pb::ListLabelsResponse {
                labels: page
                    .labels
                    .into_iter()
                    .map(|one| pb::list_labels_response::Label {
                        verdict: Some(told(one.verdict)),
                        decision: one.decided.decision.ruling.name().to_owned(),
                        reviewer: one.decided.decision.reviewer,
                        labels: one.decided.decision.labels,
                        note: one.decided.decision.note,
                        decided_ms: one.decided.decided_ms,
                    })
                    .collect(),
                next: page.next.unwrap_or_default(),
            }
        }))
    }

    async fn list_verdicts(
        &self,
        request: Request<pb::ListVerdictsRequest>,
    ) -> Result<Response<pb::ListVerdictsResponse>, Status> {
        let pb::ListVerdictsRequest { app, kind: name, id } = request.into_inner();
        let found = async {
            let verdicts = self.moderation.moderator().verdicts().await?;
            verdicts.of_text(app, kind(&name)?, &id, QUEUE_PAGE_MAX).await
        };
        answer(found.await.map(|all| pb::ListVerdictsResponse { verdicts: all.into_iter().map(told).collect() }))
    }

    async fn get_moderation_status(
        &self,
        _request: Request<pb::GetModerationStatusRequest>,
    ) -> Result<Response<pb::GetModerationStatusResponse>, Status> {
        let metrics = self.moderation.metrics().unwrap_or_default();
        let worker = |one: keevo_moderation_policy::WorkerStatus| pb::get_moderation_status_response::Worker {
            url: one.url,
            in_flight: u64::try_from(one.in_flight).unwrap_or(u64::MAX),
            resting: one.resting,
        };
        let counted = Action::ALL.iter().zip(metrics.verdicts);
        Ok(Response::new(pb::GetModerationStatusResponse {
            workers: self.moderation.workers().into_iter().map(worker).collect(),
            verdicts: counted.map(|(action, count)| (action.name().to_owned(), count)).collect(),
            pending: metrics.pending,
            lag_ms: metrics.lag_ms,
            late: metrics.late,
            caught_up: metrics.caught_up,
            set_aside: metrics.set_aside,
        }))
    }
}
