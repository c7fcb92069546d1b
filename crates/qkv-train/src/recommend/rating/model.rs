//! A user and an item in, a rating out.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use qkv_nn::layers::{Init, Pass};
use qkv_nn::ops::gather_sum;

use crate::numbers::floats;
use crate::recipe::Recipe;

/// `rating(user, item) = offset + bias(user) + bias(item) + user · item`, where what is unknown adds nothing.
#[derive(Module, Debug)]
pub struct RatingModel {
    /// The mean of the ratings that were trained on. Not trained: what differs from it is the others' to say.
    offset: Param<Tensor<1>>,
    user_bias: Param<Tensor<2>>,
    item_bias: Param<Tensor<2>>,
    users: Param<Tensor<2>>,
    items: Param<Tensor<2>>,
    #[module(skip)]
    dropout: f32,
}

/// Some ratings, each with its user and its item.
#[derive(Clone, Debug, Default)]
pub(super) struct RatingBatch {
    /// Of those the model does not know, [`NONE`](qkv::gather::NONE).
    pub(super) users: Arc<[u32]>,
    pub(super) items: Arc<[u32]>,
    pub(super) ratings: Vec<f32>,
}

impl RatingModel {
    /// A model with fresh parameters for so many users and items.
    pub fn new(recipe: &Recipe, users: usize, items: usize, offset: f32, init: &Init) -> Self {
        let (d_model, deviation) = (recipe.model.d_model, recipe.input.embedding_deviation as f32);
        Self {
            offset: init.constant([1], offset),
            user_bias: init.constant([users, 1], 0.0),
            item_bias: init.constant([items, 1], 0.0),
            users: init.normal([users, d_model], deviation),
            items: init.normal([items, d_model], deviation),
            dropout: recipe.training.dropout as f32,
        }
    }

    /// How many numbers [`RatingModel::new`] would make a model of, without making one.
    pub fn parameter_count(recipe: &Recipe, users: usize, items: usize) -> u128 {
        (users as u128 + items as u128) * (recipe.model.d_model as u128 + 1) + 1
    }

    /// The vector of each item, `[items, d_model]` row by row.
    pub fn item_vectors(&self) -> Vec<f32> {
        floats(self.items.val().into_data())
    }

    /// What each user would say of each item, `[ratings, 1]`.
    fn forward(&self, users: &Arc<[u32]>, items: &Arc<[u32]>, pass: &Pass) -> Tensor<2> {
        let row = |table: &Param<Tensor<2>>, ids: &Arc<[u32]>| gather_sum(table.val(), ids.clone(), 1);
        let user = pass.dropout(row(&self.users, users), self.dropout);
        let likes = (user * row(&self.items, items)).sum_dim(1);
        let offset = self.offset.val().detach().reshape([1, 1]);
        likes + row(&self.user_bias, users) + row(&self.item_bias, items) + offset
    }

    /// The mean squared error, shape `[1]`.
    pub(super) fn loss(&self, batch: &RatingBatch, pass: &Pass) -> Tensor<1> {
        let predicted = self.forward(&batch.users, &batch.items, pass);
        let shape = [batch.ratings.len(), 1];
        let wanted = Tensor::from_data(TensorData::new(batch.ratings.clone(), shape), &predicted.device());
        (predicted - wanted).square().mean()
    }

    /// What each user would say of each item.
    pub(super) fn predict(&self, users: &[u32], items: &[u32], batch_size: usize) -> Vec<f32> {
        let batches = users.chunks(batch_size).zip(items.chunks(batch_size));
        let predict = |(users, items): (&[u32], &[u32])| {
            floats(self.forward(&users.into(), &items.into(), &Pass::inference()).into_data())
        };
        batches.flat_map(predict).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use qkv::gather::NONE;

    #[test]
    fn a_rating_is_offset_and_biases_and_a_dot_product() {
        let mut recipe = Recipe::default();
        recipe.set("model.d_model=2").expect("set");
        let mut model = RatingModel::new(&recipe, 2, 3, 3.5, &Init::new(1, &Device::flex()));
        assert_eq!(RatingModel::parameter_count(&recipe, 2, 3), model.num_params() as u128);
        let init = Init::new(1, &Device::flex());
        model.users = init.values(vec![1.0, 2.0, -1.0, 0.5], [2, 2]);
        model.items = init.values(vec![0.5, 0.25, 1.0, 1.0, -1.0, 0.0], [3, 2]);
        model.user_bias = init.values(vec![0.5, -0.5], [2, 1]);
        model.item_bias = init.values(vec![0.125, 0.0, 0.25], [3, 1]);
        let (users, items) = ([0, 1, NONE, 0, NONE], [0, 2, 2, NONE, NONE]);
        let expected = [3.5 + 0.5 + 0.125 + 1.0, 3.5 - 0.5 + 0.25 + 1.0, 3.75, 4.0, 3.5];
        assert_eq!(model.predict(&users, &items, 2), expected);
        assert_eq!(model.item_vectors(), [0.5, 0.25, 1.0, 1.0, -1.0, 0.0]);
        let batch =
            RatingBatch { users: users.into(), items: items.into(), ratings: vec![5.125, 2.25, 3.75, 4.0, 2.5] };
        assert_eq!(model.loss(&batch, &Pass::inference()).into_scalar::<f32>(), 1.0);
    }
}
