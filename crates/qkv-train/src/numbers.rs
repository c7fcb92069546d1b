//! What is done with a model's results once they are plain numbers.

use burn::tensor::TensorData;

/// The numbers of a result.
pub(crate) fn floats(data: TensorData) -> Vec<f32> {
    data.try_to_vec().expect("results are f32, the only precision there is")
}

/// The first of the highest.
pub(crate) fn argmax(row: &[f32]) -> u32 {
    let mut best = 0;
    for (i, x) in row.iter().enumerate() {
        if *x > row[best] {
            best = i;
        }
    }
    best as u32
}
