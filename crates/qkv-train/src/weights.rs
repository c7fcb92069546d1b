//! A model's parameters as plain numbers, sorted by name: to average, to compare, and to store as safetensors.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

/// Names, shapes and values of all parameters of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights(Vec<Weight>);

#[derive(Clone, Debug, PartialEq)]
struct Weight {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Weights {
    /// The parameters of `model`.
    pub fn of<M: Module>(model: &M) -> Self {
        struct Collect {
            path: Vec<String>,
            weights: Vec<Weight>,
        }
        impl ModuleVisitor for Collect {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.push(name.to_string());
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.pop();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let tensor = param.val();
                let shape = tensor.dims().to_vec();
                let values = tensor.into_data().try_to_vec().expect("parameters are f32, the only precision there is");
                self.weights.push(Weight { name: self.path.join("."), shape, values });
            }
        }
        let mut collect = Collect { path: Vec::new(), weights: Vec::new() };
        model.visit(&mut collect);
        Self::sorted(collect.weights)
    }

    /// `model` with these parameters in place of its own.
    ///
    /// # Errors
    /// Names the first parameter that is missing, too many, or of another shape.
    pub fn apply<M: Module>(&self, model: M) -> Result<M, String> {
        struct Replace<'a> {
            path: Vec<String>,
            weights: HashMap<&'a str, &'a Weight>,
            wrong: Option<String>,
        }
        impl ModuleMapper for Replace<'_> {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.push(name.to_string());
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.pop();
            }
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let name = self.path.join(".");
                let device = param.lazy_device();
                match self.weights.remove(name.as_str()) {
                    Some(weight) if weight.shape == param.dims() => {
                        let data = TensorData::new(weight.values.clone(), weight.shape.clone());
                        param.map(|_| Tensor::from_data(data, &device))
                    }
                    Some(weight) => {
                        let wanted = param.dims();
                        self.wrong.get_or_insert(format!("tensor `{name}` is {:?}, not {wanted:?}", weight.shape));
                        param
                    }
                    None => {
                        self.wrong.get_or_insert(format!("tensor `{name}` is missing"));
                        param
                    }
                }
            }
        }
        let weights = self.0.iter().map(|weight| (weight.name.as_str(), weight)).collect();
        let mut replace = Replace { path: Vec::new(), weights, wrong: None };
        let model = model.map(&mut replace);
        if let Some(name) = replace.weights.keys().min() {
            replace.wrong.get_or_insert(format!("tensor `{name}` is not one of this model's"));
        }
        match replace.wrong {
            Some(wrong) => Err(wrong),
            None => Ok(model),
        }
    }

    /// The mean of several sets of parameters of one model.
    ///
    /// # Panics
    /// If there is none.
    pub fn mean<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = all.into_iter();
        let mut mean = all.next().expect("a mean of at least one").clone();
        let mut count = 1.0;
        for other in all {
            count += 1.0;
            for (weight, other) in mean.0.iter_mut().zip(&other.0) {
                for (x, y) in weight.values.iter_mut().zip(&other.values) {
                    *x += (y - *x) / count;
                }
            }
        }
        mean
    }

    /// How many numbers there are.
    pub fn count(&self) -> usize {
        self.0.iter().map(|weight| weight.values.len()).sum()
    }

    /// The file format of Hugging Face's safetensors.
    pub fn to_safetensors(&self) -> Vec<u8> {
        let bytes: Vec<Vec<u8>> =
            self.0.iter().map(|weight| weight.values.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
        let views = self.0.iter().zip(&bytes).map(|(weight, bytes)| {
            let view = TensorView::new(Dtype::F32, weight.shape.clone(), bytes);
            (weight.name.as_str(), view.expect("as many bytes as the shape asks for"))
        });
        safetensors::serialize(views, None).expect("a serialisation in memory")
    }

    /// Reads what [`Weights::to_safetensors`] wrote.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn from_safetensors(content: &[u8]) -> Result<Self, String> {
        let file = SafeTensors::deserialize(content).map_err(|e| format!("not a whole safetensors file ({e})"))?;
        let mut weights = Vec::new();
        for (name, view) in file.iter() {
            if view.dtype() != Dtype::F32 {
                return Err(format!("tensor `{name}` is {:?}; only F32 is read", view.dtype()));
            }
            let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            weights.push(Weight { name: name.to_string(), shape: view.shape().to_vec(), values });
        }
        Ok(Self::sorted(weights))
    }

    /// One order for all, so that sets of parameters of one model line up whatever way they came.
    fn sorted(mut weights: Vec<Weight>) -> Self {
        weights.sort_by(|a, b| a.name.cmp(&b.name));
        Self(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use qkv_nn::layers::{Init, Linear};

    fn model(seed: u64) -> Linear {
        Linear::new(3, 5, &Init::new(seed, &Device::flex()))
    }

    #[test]
    fn weights_survive_safetensors_and_change_a_model() {
        let weights = Weights::of(&model(1));
        assert_eq!(weights.count(), 20);
        let read = Weights::from_safetensors(&weights.to_safetensors()).expect("read");
        assert_eq!(read, weights);
        let other = model(2);
        assert_ne!(Weights::of(&other), weights);
        assert_eq!(Weights::of(&read.apply(other).expect("apply")), weights);
    }

    #[test]
    fn a_wrong_set_of_weights_is_refused_by_name() {
        let narrow = Weights::of(&Linear::new(3, 4, &Init::new(1, &Device::flex())));
        assert!(narrow.apply(model(1)).expect_err("shape").contains("[3, 4]"));
        let mut lacking = Weights::of(&model(1));
        let name = lacking.0.pop().expect("a weight").name;
        assert!(lacking.apply(model(1)).expect_err("missing").contains(&name));
        assert!(Weights::from_safetensors(b"nonsense").is_err());
    }

    #[test]
    fn the_mean_is_the_mean() {
        let (a, b) = (Weights::of(&model(1)), Weights::of(&model(2)));
        let mean = Weights::mean([&a, &b]);
        for ((x, y), m) in a.0[0].values.iter().zip(&b.0[0].values).zip(&mean.0[0].values) {
            assert!(((x + y) / 2.0 - m).abs() < 1e-6);
        }
    }
}
