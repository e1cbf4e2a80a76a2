//! What of a scenario does not go together.

use einflow_spec::{At, Node, Problems, Span, did_you_mean};

use super::{Admission, Boundary, Link, Load, Prefill, Role, Scenario};

impl Scenario {
    /// Roles that go together, and links that lead somewhere.
    pub(super) fn check(&self, node: &Node) -> Result<(), Problems> {
        let mut problems = Problems::new();
        self.idle_fields(node, &mut problems);
        let here = Span::new(0, 1);
        for (i, pool) in self.pools.iter().enumerate() {
            if self.pools[..i].iter().any(|p| p.role == pool.role) {
                let role = pool.role.name();
                problems.push(
                    self.at(pool.span, format!("a second pool for `{role}`"))
                        .help("one pool for each role; replicas are devices of one pool"),
                );
            }
        }
        let has = |role| self.pool(role).is_some();
        let together = match (has(Role::All), has(Role::Model), has(Role::Attention)) {
            (true, false, false) => None,
            (false, true, true) => None,
            (true, ..) => {
                Some("a pool for `all` leaves nothing to a pool for `model` or `attention`")
            }
            (_, true, false) => {
                Some("nothing attends: a pool for `model` needs one for `attention`")
            }
            (_, false, true) => {
                Some("nothing computes the model: a pool for `attention` needs one for `model`")
            }
            _ => Some("nothing decodes"),
        };
        if let Some(message) = together {
            problems.push(
                self.at(here, message)
                    .help("give a pool with `role: all`, or one with `role: model` and one with `role: attention`"),
            );
        }
        match (self.prefill.value, self.pool(Role::Prefill)) {
            (Prefill::Pool, None) => problems.push(
                self.at(self.prefill.span, "no pool computes prompts")
                    .help("add a pool with `role: prefill`"),
            ),
            (Prefill::Pool, Some(_)) | (_, None) => {}
            (_, Some(pool)) => problems.push(
                self.at(pool.span, "a pool for prompts that are not computed there")
                    .help("`prefill: pool` uses it"),
            ),
        }
        if self.prefill.value == Prefill::Chunked && !has(Role::All) {
            problems.push(
                self.at(
                    self.prefill.span,
                    "prompts in chunks where attention is offloaded",
                )
                .help("`chunked` goes with a pool for `all`; `pool` or `excluded` with any"),
            );
        }
        for (i, link) in self.links.iter().enumerate() {
            let named = |l: &Link| l.name.value == link.name.value;
            if self.links[..i].iter().any(named) {
                problems.push(
                    self.at(
                        link.name.span,
                        format!("the link `{}` is named twice", link.name.value),
                    )
                    .help("each link of a scenario has a name of its own"),
                );
            }
            let same = |l: &&Link| {
                let ends = |l: &Link| {
                    let mut ends = l.between.clone().map(|e| e.value);
                    ends.sort();
                    ends
                };
                ends(l) == ends(link)
            };
            if self.links[..i]
                .iter()
                .any(|l| same(&l) && l.name.value != link.name.value)
            {
                problems.push(
                    self.at(link.between[0].span, "a second link between the same pools")
                        .help("one link joins two pools"),
                );
            }
            for end in &link.between {
                if !self.pools.iter().any(|p| p.name == end.value) {
                    let names: Vec<&str> = self.pools.iter().map(|p| p.name.as_str()).collect();
                    problems.push(
                        self.at(end.span, format!("there is no pool `{}`", end.value))
                            .help(did_you_mean(&end.value, names.iter().copied())),
                    );
                }
            }
        }
        problems.into_result(Some(()))
    }

    /// Fields that would do nothing where they stand: better refused than passed over.
    pub(super) fn idle_fields(&self, node: &Node, problems: &mut Problems) {
        let field = |node: &Node, name: &str| -> Option<Span> {
            let entries = node.record().ok()?;
            let found = entries.iter().find(|(key, ..)| key == name);
            found.map(|(_, span, _)| *span)
        };
        let mut idle = |span: Option<Span>, does_nothing: bool, why: &str, help: &str| {
            if let (Some(span), true) = (span, does_nothing) {
                problems.push(self.at(span, why).help(help));
            }
        };
        let offloads = self.pool(Role::Attention).is_some();
        let fixed = matches!(self.load, Load::Fixed(_));
        idle(
            field(node, "overlap"),
            self.overlap && !offloads,
            "`overlap` where nothing is offloaded",
            "leave it out, or give attention a pool",
        );
        idle(
            field(node, "overlap"),
            self.overlap && self.boundary == Boundary::Projections,
            "`overlap` with the projections offloaded",
            "where attention makes keys and values itself, none travel: leave out `overlap`",
        );
        idle(
            field(node, "boundary"),
            !offloads,
            "a boundary where nothing is offloaded",
            "leave it out, or give attention a pool",
        );
        idle(
            field(node, "slowdown"),
            !offloads,
            "`slowdown` where nothing is offloaded",
            "it is for the least bandwidth between model and attention",
        );
        idle(
            field(node, "step_tokens"),
            self.prefill.value == Prefill::Excluded,
            "`step_tokens` where no prompts are computed",
            "`prefill: chunked` and `prefill: pool` use it",
        );
        idle(
            field(node, "admission"),
            !fixed && !self.policy.grows,
            "`admission` with a policy that always sets aside room for the final length",
            "leave it out, or `policy: vllm`",
        );
        let prompts = [
            (
                "prefix_caching",
                "`prefix_caching` where nobody computes a prompt again",
            ),
            (
                "reserve_prompts",
                "`reserve_prompts` where no prompt comes in chunks and grows",
            ),
            (
                "async_scheduling",
                "`async_scheduling` where no server plans ahead",
            ),
            ("null_block", "`null_block` where no server keeps one"),
        ];
        for (name, message) in prompts {
            idle(
                field(node, name),
                self.prefill.value != Prefill::Chunked
                    || !self.policy.grows
                    || self.admission == Admission::Reserve,
                message,
                "`prefill: chunked` with `admission: grow` uses it",
            );
        }
        for name in ["sequences", "admission", "policy", "block_size"] {
            idle(
                field(node, name),
                fixed,
                &format!("`{name}` with a fixed load: nobody is admitted"),
                "leave it out, or give a trace",
            );
        }
        idle(
            field(node, "prefill"),
            fixed && self.prefill.value != Prefill::Excluded,
            "prompts with a fixed load: there are none",
            "`prefill: excluded`, or a trace",
        );
        let pools = node.record().ok().and_then(|entries| {
            let found = entries.iter().find(|(key, ..)| key == "pools");
            found.and_then(|(_, _, pools)| pools.record().ok())
        });
        for pool in &self.pools {
            let own = pools.and_then(|p| p.iter().find(|(name, ..)| *name == pool.name));
            let Some((_, _, own)) = own else { continue };
            idle(
                field(own, "partition"),
                pool.role != Role::Attention,
                "a partition of a pool that is not for attention",
                "on a pool for `all` heads are divided over its tensor-parallel group; leave it out",
            );
            idle(
                field(own, "library"),
                !matches!(pool.role, Role::Attention | Role::All),
                "a library of attention on a pool that does not attend",
                "leave it out",
            );
            idle(
                field(own, "engine"),
                pool.role != Role::Attention,
                "an engine for a pool that is not for attention",
                "an accelerator attends: `role: attention`",
            );
            idle(
                field(own, "kv_blocks"),
                pool.role != if offloads { Role::Attention } else { Role::All },
                "blocks of a KV cache on a pool that keeps none",
                "caches are where attention is: on the pool for `attention` or `all`",
            );
            idle(
                field(own, "tensor_parallel"),
                pool.role == Role::Attention,
                "a tensor-parallel group of attention's pool",
                "`partition` says how attention is divided",
            );
            idle(
                field(own, "pipeline_parallel"),
                pool.role != Role::All,
                "stages of a pool that does not do everything",
                "on a pool for `all`",
            );
            idle(
                field(own, "expert_parallel"),
                pool.role == Role::Attention,
                "experts on attention's pool",
                "they are on the pool for `model` or `all`",
            );
            idle(
                field(own, "expert_imbalance"),
                pool.expert_parallel.is_none(),
                "`expert_imbalance` where each device has a part of every expert",
                "with `expert_parallel`",
            );
            idle(
                field(own, "node"),
                pool.node_link.is_none() || pool.role == Role::Attention,
                "nodes between which nothing travels",
                "`node_link` names the link between them",
            );
            idle(
                field(own, "node_link"),
                pool.node.is_none() || pool.role == Role::Attention,
                "a link between nodes, and nobody says how large these are",
                "`node: 8` says how many devices a node has",
            );
        }
        let keeps = if offloads { Role::Attention } else { Role::All };
        for link in &self.links {
            let role = |end: &At<String>| {
                let pool = self.pools.iter().find(|p| p.name == end.value);
                pool.map(|p| p.role)
            };
            let ends = [role(&link.between[0]), role(&link.between[1])];
            let joins = |a, b| ends == [Some(a), Some(b)] || ends == [Some(b), Some(a)];
            let used = joins(Role::Model, Role::Attention) || joins(Role::Prefill, keeps);
            idle(
                Some(link.between[0].span),
                !used && ends.iter().all(Option::is_some),
                "nothing travels between these pools",
                "between model and attention, and from the pool for prompts to the pool with the caches",
            );
        }
    }
}
