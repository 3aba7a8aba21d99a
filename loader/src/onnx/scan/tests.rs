#![allow(clippy::unwrap_used)]

use super::*;
use crate::onnx::proto::{AttributeProto, Entry, FunctionProto};

const FLOAT: i32 = 1;
const INT64: i32 = 7;

fn raw(dims: &[i64], data_type: i32, held: usize) -> TensorProto {
    let raw_data = Some(vec![0; held].into());
    TensorProto {
        name: Some("w".to_owned()),
        dims: dims.to_vec(),
        data_type: Some(data_type),
        raw_data,
        ..TensorProto::default()
    }
}

fn external(dims: &[i64], entries: &[(&str, &str)]) -> TensorProto {
    let entry = |(k, v): &(&str, &str)| Entry { key: Some((*k).to_owned()), value: Some((*v).to_owned()) };
    TensorProto {
        raw_data: None,
        data_location: Some(1),
        external_data: entries.iter().map(entry).collect(),
        ..raw(dims, FLOAT, 0)
    }
}

fn node(op: &str, domain: &str) -> NodeProto {
    NodeProto { op_type: Some(op.to_owned()), domain: Some(domain.to_owned()), ..NodeProto::default() }
}

fn with(tensor: TensorProto) -> GraphProto {
    GraphProto { node: vec![node("Add", "")], initializer: vec![tensor], ..GraphProto::default() }
}

fn holding(graph: GraphProto) -> NodeProto {
    NodeProto {
        attribute: vec![AttributeProto { g: Some(graph), ..AttributeProto::default() }],
        output: vec!["y".to_owned()],
        ..node("If", "")
    }
}

fn constant(op: &str, tensor: TensorProto) -> NodeProto {
    let attribute = vec![AttributeProto { t: Some(tensor), ..AttributeProto::default() }];
    NodeProto { attribute, ..node(op, "") }
}

fn of(node: NodeProto) -> GraphProto {
    GraphProto { node: vec![node], ..GraphProto::default() }
}

/// A scan beside one file, `w.data` of 400 bytes.
fn scanned(graph: GraphProto, functions: Vec<FunctionProto>) -> Result<(), ScanError> {
    let model = ModelProto { graph: Some(graph), functions }.encode_to_vec();
    bytes_scanned(model)
}

fn bytes_scanned(model: Vec<u8>) -> Result<(), ScanError> {
    scan(&model.into(), &mut |file| match file {
        "w.data" => Ok(400),
        _ => Err("it is not there".to_owned()),
    })
}

#[test]
fn what_is_whole_passes() {
    let packed = |data: &[u8]| vec![Bytes::copy_from_slice(data)];
    let typed = TensorProto { raw_data: None, ..raw(&[2, 2], FLOAT, 0) };
    let good = [
        with(raw(&[10, 10], FLOAT, 400)),
        with(raw(&[], INT64, 8)),
        with(raw(&[0, 7], FLOAT, 0)),
        with(raw(&[3], 22, 2)),
        with(TensorProto { float_data: packed(&[0; 16]), ..typed.clone() }),
        // 300 takes two bytes.
        with(TensorProto { data_type: Some(INT64), int64_data: packed(&[1, 2, 0xAC, 0x02, 3]), ..typed }),
        with(external(&[10, 10], &[("location", "w.data"), ("offset", "0"), ("length", "400")])),
        with(external(&[10, 5], &[("location", "w.data"), ("offset", "200")])),
        of(constant("Constant", external(&[100], &[("location", "w.data")]))),
        of(holding(with(raw(&[1], FLOAT, 4)))),
        of(node("FusedMatMul", "com.microsoft")),
    ];
    for graph in good {
        assert_eq!(scanned(graph.clone(), vec![]), Ok(()), "{graph:?}");
    }
    let own = FunctionProto { domain: Some("mine".to_owned()), node: vec![node("Add", "")] };
    assert_eq!(scanned(of(node("Twice", "mine")), vec![own]), Ok(()));
}

#[test]
fn each_lie_is_named() {
    let location = |name: &str, more: &[(&str, &str)]| {
        let entries: Vec<_> = [("location", name)].into_iter().chain(more.iter().copied()).collect();
        with(external(&[10, 10], &entries))
    };
    let sparse = |dims: &[i64]| GraphProto {
        sparse_initializer: vec![SparseTensorProto {
            values: Some(raw(&[1], FLOAT, 4)),
            indices: Some(raw(&[1], INT64, 8)),
            dims: dims.to_vec(),
        }],
        ..of(node("Add", ""))
    };
    let cases: Vec<(GraphProto, &str)> = vec![
        (
            with(raw(&[512, 1024, 1024], FLOAT, 4)),
            "tensor \"w\" of shape [512, 1024, 1024] needs 2147483648 bytes and has 4",
        ),
        (with(raw(&[2], FLOAT, 12)), "needs 8 bytes and has 12"),
        (with(raw(&[-1, 4], FLOAT, 16)), "has the shape [-1, 4]: negative"),
        (with(raw(&[1 << 62, 4, 0], FLOAT, 0)), "beyond 64 bits"),
        (with(raw(&[1 << 60], FLOAT, 4)), "beyond 64 bits"),
        (with(raw(&[1], 99, 4)), "element type 99"),
        (with(TensorProto { raw_data: None, ..raw(&[2], FLOAT, 0) }), "needs 2 numbers and has 0"),
        (with(TensorProto { raw_data: None, ..raw(&[1 << 40], STRING, 0) }), "needs 1099511627776 numbers and has 0"),
        (location("other.data", &[]), "\"other.data\": it is not there"),
        (location("*/_ORT_MEM_ADDR_/*", &[]), "stands for the engine's own memory"),
        (location("w.data", &[("offset", "1")]), "needs 400 bytes and has 399"),
        (location("w.data", &[("length", "401")]), "401 bytes from 0 on are wanted of a file of 400"),
        (location("w.data", &[("offset", "401"), ("length", "0")]), "0 bytes from 401 on"),
        (location("w.data", &[("offset", "18446744073709551615"), ("length", "2")]), "of a file of 400"),
        (location("w.data", &[("offset", "-4")]), "offset is \"-4\""),
        (location("w.data", &[("length", "200")]), "needs 400 bytes and has 200"),
        (of(holding(location("w.data", &[]))), "only numbers of the main graph's initializers"),
        (of(holding(location("../w.data", &[]))), "\"../w.data\": it is not there"),
        (of(constant("ConstantOfShape", external(&[100], &[("location", "w.data")]))), "only numbers"),
        (of(constant("Constant", raw(&[1 << 29], FLOAT, 4))), "the tensor of Constant without a name of shape"),
        (sparse(&[1 << 40]), "its tensors need"),
        (sparse(&[-5]), "has the shape [-5]"),
        (of(node("Twice", "mine")), "node without a name is mine::Twice"),
        (of(holding(of(node("Own", "ai.onnx.training")))), "ai.onnx.training::Own"),
    ];
    for (graph, part) in cases {
        let error = scanned(graph, vec![]).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    let function = FunctionProto { domain: Some("mine".to_owned()), node: vec![node("Own", "other")] };
    let error = scanned(of(node("Twice", "mine")), vec![function]).unwrap_err().to_string();
    assert!(error.contains("other::Own"), "{error}");
}

/// Many tensors that each ask for all of one file.
#[test]
fn shared_bytes_are_bounded() {
    let shared = |times: usize| {
        let tensor = external(&[1 << 20], &[("location", "w.data")]);
        let graph = GraphProto { initializer: vec![tensor; times], ..of(node("Add", "")) };
        let model = ModelProto { graph: Some(graph), functions: vec![] }.encode_to_vec();
        scan(&model.into(), &mut |_| Ok(4 << 20))
    };
    assert_eq!(shared(16), Ok(()));
    let error = shared(100).unwrap_err().to_string();
    assert!(error.contains("need 419430400 bytes"), "{error}");
}

#[test]
fn damaged_files_are_told_as_such() {
    let model = ModelProto { graph: Some(with(raw(&[10, 10], FLOAT, 400))), functions: vec![] }.encode_to_vec();
    for cut in 0..model.len() {
        let error = bytes_scanned(model[..cut].to_vec()).unwrap_err().to_string();
        assert!(error.contains("truncated"), "{cut}: {error}");
    }
    for garbage in [&b"<html>404</html>"[..], &[0xFF; 64], b"{\"error_code\": \"INTERNAL_ERROR\"}"] {
        assert!(bytes_scanned(garbage.to_vec()).is_err());
    }
}

/// A graph in a graph, again and again: neither decoder nor scan runs out of stack.
#[test]
fn depth_is_bounded() {
    let mut graph = of(node("Add", ""));
    for _ in 0..20 {
        graph = of(holding(graph));
    }
    assert_eq!(scanned(graph.clone(), vec![]), Ok(()));
    for _ in 0..500 {
        graph = of(holding(graph));
    }
    let error = scanned(graph, vec![]).unwrap_err().to_string();
    assert!(error.contains("recursion limit reached"), "{error}");
}
