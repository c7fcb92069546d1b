//! Which features and kinds of edges the training part has, and the ids of their names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::{Graphs, SparseRows};
use crate::error::{Error, Result};

/// What features and kinds are called that training has not seen.
const UNKNOWN: &str = "<unk>";

/// What a model knows of its graphs.
///
/// - Features and categories with names: id 0 is of those that training has not seen, then come the others by spelling.
/// - Features with numbers keep them. One that training has not seen is left out, also where it has seen a greater one.
/// - A node without features has none, unless none of training has any.
/// - Kinds of edges with names: as features. Edges without kinds all have the kind 0. The kind of self-loops is the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct GraphVocabulary {
    /// Sorted, without the unknown; `None` if features have numbers.
    names: Option<Vec<String>>,
    /// How many sparse features there are, the unknown included.
    features: usize,
    /// Features with numbers below `features` that training has not seen, rising.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unused: Vec<u32>,
    dense_dim: usize,
    /// What the numbers of a node are called; empty if nothing names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dense_names: Vec<String>,
    /// Sorted, without the unknown; empty if edges have no kinds.
    relations: Vec<String>,
    edge_dim: usize,
    /// As `dense_names`, of an edge.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    edge_names: Vec<String>,
    directed: bool,
    self_loops: bool,
}

#[derive(Deserialize)]
struct Parts {
    names: Option<Vec<String>>,
    features: usize,
    /// (older models do not tell)
    #[serde(default)]
    unused: Vec<u32>,
    dense_dim: usize,
    /// (nor these)
    #[serde(default)]
    dense_names: Vec<String>,
    relations: Vec<String>,
    edge_dim: usize,
    #[serde(default)]
    edge_names: Vec<String>,
    directed: bool,
    self_loops: bool,
}

impl TryFrom<Parts> for GraphVocabulary {
    type Error = String;

    fn try_from(parts: Parts) -> std::result::Result<Self, String> {
        let Parts {
            names,
            features,
            unused,
            dense_dim,
            dense_names,
            relations,
            edge_dim,
            edge_names,
            directed,
            self_loops,
        } = parts;
        let rises = |names: &[String]| names.is_sorted_by(|one, other| one < other);
        if !rises(&relations) || !names.as_deref().is_none_or(rises) {
            return Err("the names are not sorted, or one stands there twice".to_owned());
        }
        if names.as_ref().is_some_and(|names| names.len() + 1 != features) || features > u32::MAX as usize {
            return Err("there are not as many features as names".to_owned());
        }
        if !unused.is_sorted_by(|one, other| one < other) || unused.last().is_some_and(|&id| id as usize >= features) {
            return Err("the features that are not used are not sorted, or not among the features".to_owned());
        }
        let fits = |names: &[String], dim: usize| names.is_empty() || names.len() == dim;
        if !fits(&dense_names, dense_dim) || !fits(&edge_names, edge_dim) {
            return Err("there are not as many numbers as names of them".to_owned());
        }
        Ok(Self {
            names,
            features,
            unused,
            dense_dim,
            dense_names,
            relations,
            edge_dim,
            edge_names,
            directed,
            self_loops,
        })
    }
}

/// A name that training has not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnseenName {
    /// What it is a name of: `feature` or `edge kind`.
    pub what: &'static str,
    /// The name, or the number of a feature.
    pub name: String,
    /// How often it stands in the data, of edges both ways.
    pub count: usize,
}

impl GraphVocabulary {
    /// Of the graphs `train`.
    ///
    /// # Panics
    ///
    /// If an index is not below the number of graphs.
    #[must_use]
    pub fn build(graphs: &Graphs, train: &[usize]) -> Self {
        let mut used = vec![false; graphs.features];
        let mut used_kinds = vec![false; graphs.kinds()];
        for &index in train {
            let nodes = graphs.nodes.range(index);
            if let Some(SparseRows { offsets, ids, .. }) = &graphs.sparse {
                ids[offsets[nodes.start]..offsets[nodes.end]].iter().for_each(|&id| used[id as usize] = true);
            }
            let edges = graphs.rows[nodes.start]..graphs.rows[nodes.end];
            match &graphs.kinds {
                Some(kinds) => kinds[edges].iter().for_each(|&kind| used_kinds[kind as usize] = true),
                None => used_kinds[0] |= !edges.is_empty(),
            }
        }
        let names = graphs.feature_names.as_ref().map(|names| pick(names, &used));
        let features = match &names {
            Some(names) => names.len() + 1,
            None => used.iter().rposition(|&used| used).map_or(0, |last| last + 1),
        };
        let unused = match &names {
            Some(_) => Vec::new(),
            None => (0..features as u32).filter(|&id| !used[id as usize]).collect(),
        };
        // Edges without a name are a kind as well where others have one.
        let relations = match graphs.kind_names.as_slice() {
            [only] if only.is_empty() => Vec::new(),
            names => pick(names, &used_kinds),
        };
        Self {
            names,
            features,
            unused,
            dense_dim: graphs.dense_dim,
            dense_names: graphs.dense_names.clone(),
            relations,
            edge_dim: graphs.edge_dim,
            edge_names: graphs.edge_names.clone(),
            directed: graphs.options.directed,
            self_loops: graphs.options.self_loops,
        }
    }

    /// How many sparse features there are, the unknown one included: the rows of their embedding.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features
    }

    /// The names of features, sorted: that of id `i + 1` is at `i`. `None` if they have numbers.
    #[must_use]
    pub fn feature_names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    /// How many dense features a node has.
    #[must_use]
    pub fn dense_dim(&self) -> usize {
        self.dense_dim
    }

    /// The names of the kinds of edges, sorted: that of kind `i + 1` is at `i`. Empty if edges have no kinds.
    #[must_use]
    pub fn relations(&self) -> &[String] {
        &self.relations
    }

    /// How many kinds of edges there are, the unknown one and that of self-loops included.
    #[must_use]
    pub fn kinds(&self) -> usize {
        let named = if self.relations.is_empty() { 1 } else { 1 + self.relations.len() };
        named + usize::from(self.self_loops)
    }

    /// How many numbers an edge has.
    #[must_use]
    pub fn edge_dim(&self) -> usize {
        self.edge_dim
    }

    /// Whether edges go one way alone: read graphs for this model so.
    #[must_use]
    pub fn directed(&self) -> bool {
        self.directed
    }

    /// Whether nodes have edges to themselves: read graphs for this model so.
    #[must_use]
    pub fn self_loops(&self) -> bool {
        self.self_loops
    }
}

/// The names of which something is used, sorted.
fn pick(names: &[String], used: &[bool]) -> Vec<String> {
    let used = names.iter().zip(used).filter(|(_, used)| **used);
    used.map(|(name, _)| name.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The names by their new ids, the unknown before them.
fn with_unknown(names: &[String]) -> Vec<String> {
    std::iter::once(UNKNOWN.to_owned()).chain(names.iter().cloned()).collect()
}

/// The numbers at `places` of rows of `dim`.
fn picked(numbers: &[f32], dim: usize, places: &[usize]) -> Vec<f32> {
    numbers.chunks_exact(dim.max(1)).flat_map(|row| places.iter().map(|&place| row[place])).collect()
}

/// The new id of each of `old` names: 0 where it is not among the `known`.
fn new_ids(old: &[String], known: &[String]) -> Vec<u32> {
    let places: HashMap<&str, u32> = known.iter().map(String::as_str).zip(1..).collect();
    old.iter().map(|name| places.get(name.as_str()).copied().unwrap_or(0)).collect()
}

impl Graphs {
    /// The same graphs with the ids of a vocabulary, and the names that it has not, features before kinds, by spelling.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if nodes or edges have other features than in training: names for numbers, or another number of
    /// dense ones, or without one that training calls by name; and if they were read with edges of another direction or without self-loops
    /// where the model has them.
    pub fn encode(mut self, vocabulary: &GraphVocabulary) -> Result<(Self, Vec<UnseenName>)> {
        self.pick_numbers(vocabulary)?;
        self.check(vocabulary)?;
        if self.edge_dim != vocabulary.edge_dim {
            // (those that were added, for there are no others)
            self.edge_numbers = vec![0.0; self.columns.len() * vocabulary.edge_dim];
            self.edge_dim = vocabulary.edge_dim;
        }
        let mut unseen = BTreeMap::new();
        self.encode_features(vocabulary, &mut unseen);
        self.encode_kinds(vocabulary, &mut unseen);
        let unseen = unseen.into_iter().map(|((order, name), count)| {
            let what = if order == 0 { "feature" } else { "edge kind" };
            UnseenName { what, name, count }
        });
        Ok((self, unseen.collect()))
    }

    /// Numbers in the order in which training had them, where both say what they are called.
    fn pick_numbers(&mut self, vocabulary: &GraphVocabulary) -> Result<()> {
        if let Some(places) = self.places("nodes", &self.dense_names, &vocabulary.dense_names)? {
            self.dense = picked(&self.dense, self.dense_dim, &places);
            self.dense_dim = places.len();
            self.dense_names.clone_from(&vocabulary.dense_names);
        }
        if !self.has_edges() {
            return Ok(());
        }
        if let Some(places) = self.places("edges", &self.edge_names, &vocabulary.edge_names)? {
            self.edge_numbers = picked(&self.edge_numbers, self.edge_dim, &places);
            self.edge_dim = places.len();
            self.edge_names.clone_from(&vocabulary.edge_names);
        }
        Ok(())
    }

    /// Where the `wanted` columns are among those that were `found`, unless they are the same or one of them has no names.
    fn places(&self, whose: &str, found: &[String], wanted: &[String]) -> Result<Option<Vec<usize>>> {
        if found.is_empty() || wanted.is_empty() || found == wanted {
            return Ok(None);
        }
        let place = |name| found.iter().position(|found| found == name).ok_or(name);
        let places: std::result::Result<_, &String> = wanted.iter().map(place).collect();
        places.map(Some).map_err(|missing| {
            let what = format!("its {whose} have no column {missing:?}; there are \"{}\"", found.join("\", \""));
            Error::unusable(&self.name, what, "give them the columns that training had")
        })
    }

    /// Whether there is an edge that was not added.
    fn has_edges(&self) -> bool {
        let added = self.kind_names.len() as u32;
        match &self.kinds {
            Some(kinds) if self.options.self_loops => kinds.iter().any(|&kind| kind != added),
            _ => !self.columns.is_empty(),
        }
    }

    fn check(&self, vocabulary: &GraphVocabulary) -> Result<()> {
        const AS_BEFORE: &str = "give them the same columns or keys as in training";
        let refuse = |what: String, mend: &str| Err(Error::unusable(&self.name, what, mend));
        if self.dense_dim != vocabulary.dense_dim {
            let (found, wanted) = (self.dense_dim, vocabulary.dense_dim);
            return refuse(format!("has nodes of {found} numbers, but the model was trained with {wanted}"), AS_BEFORE);
        }
        if self.edge_dim != vocabulary.edge_dim && self.has_edges() {
            let (found, wanted) = (self.edge_dim, vocabulary.edge_dim);
            return refuse(format!("has edges of {found} numbers, but the model was trained with {wanted}"), AS_BEFORE);
        }
        if self.sparse.is_some() && !self.bare && self.feature_names.is_some() != vocabulary.names.is_some() {
            let called = |named: bool| if named { "names" } else { "numbers" };
            let (found, wanted) = (called(self.feature_names.is_some()), called(vocabulary.names.is_some()));
            return refuse(format!("has features with {found}, but the model was trained with {wanted}"), AS_BEFORE);
        }
        let how = (self.options.directed, self.options.self_loops);
        if how != (vocabulary.directed, vocabulary.self_loops) {
            let what = format!(
                "was read with directed = {} and self_loops = {}, but the model was trained with {} and {}",
                how.0, how.1, vocabulary.directed, vocabulary.self_loops
            );
            return refuse(what, "read it as the model's training data");
        }
        Ok(())
    }

    fn encode_features(&mut self, vocabulary: &GraphVocabulary, unseen: &mut BTreeMap<(u8, String), usize>) {
        self.features = vocabulary.features;
        // Of what nothing is known a model knows the feature 0 only if nothing was known in training.
        if self.bare && (vocabulary.names.is_some() || vocabulary.features != 1) {
            (self.bare, self.sparse) = (false, None);
        }
        let names = std::mem::replace(&mut self.feature_names, vocabulary.names.as_deref().map(with_unknown));
        let none = || SparseRows { offsets: vec![0; self.nodes.tokens() + 1], ids: Vec::new(), values: None };
        let sparse = self.sparse.get_or_insert_with(none);
        let is_unseen = |id: u32| id as usize >= vocabulary.features || vocabulary.unused.binary_search(&id).is_ok();
        if let (Some(names), Some(known)) = (&names, &vocabulary.names) {
            let ids = new_ids(names, known);
            for id in &mut sparse.ids {
                let new = ids[*id as usize];
                if new == 0 {
                    *unseen.entry((0, names[*id as usize].clone())).or_default() += 1;
                }
                *id = new;
            }
        } else if sparse.ids.iter().any(|&id| is_unseen(id)) {
            let old = std::mem::replace(sparse, SparseRows { offsets: vec![0], ids: Vec::new(), values: None });
            sparse.values = old.values.as_ref().map(|_| Vec::new());
            for row in old.offsets.windows(2) {
                for entry in row[0]..row[1] {
                    let id = old.ids[entry];
                    if is_unseen(id) {
                        *unseen.entry((0, id.to_string())).or_default() += 1;
                        continue;
                    }
                    sparse.ids.push(id);
                    if let (Some(values), Some(old)) = (&mut sparse.values, &old.values) {
                        values.push(old[entry]);
                    }
                }
                sparse.offsets.push(sparse.ids.len());
            }
        }
        if vocabulary.features == 0 {
            self.sparse = None;
        }
    }

    fn encode_kinds(&mut self, vocabulary: &GraphVocabulary, unseen: &mut BTreeMap<(u8, String), usize>) {
        let mut ids = if vocabulary.relations.is_empty() {
            vec![0; self.kind_names.len()]
        } else {
            new_ids(&self.kind_names, &vocabulary.relations)
        };
        // Of a model without kinds, edges without a name are what it knows.
        let is_unseen = |place: usize| {
            self.kind_names
                .get(place)
                .is_some_and(|name| ids[place] == 0 && !(vocabulary.relations.is_empty() && name.is_empty()))
        };
        let mut counts = vec![0; self.kind_names.len() + 1];
        match &self.kinds {
            Some(kinds) => kinds.iter().for_each(|&kind| counts[kind as usize] += 1),
            None => counts[0] = self.columns.len(),
        }
        for (place, name) in
            self.kind_names.iter().enumerate().filter(|(place, _)| is_unseen(*place) && counts[*place] > 0)
        {
            if name != UNKNOWN {
                unseen.insert((1, name.clone()), counts[place]);
            }
        }
        ids.push(vocabulary.kinds() as u32 - 1);
        self.kinds = match self.kinds.take() {
            _ if vocabulary.kinds() == 1 => None,
            Some(kinds) => Some(kinds.into_iter().map(|kind| ids[kind as usize]).collect()),
            None => Some(vec![ids[0]; self.columns.len()]),
        };
        self.kind_names = match vocabulary.relations.as_slice() {
            [] => vec![String::new()],
            relations => with_unknown(relations),
        };
    }
}
