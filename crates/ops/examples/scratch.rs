use candle_core::{Device, Result, Tensor};
use ops::frozen::*;
fn seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[allow(unsafe_code)]
    unsafe { libc::clock_gettime(if rayon::current_num_threads()==1 {libc::CLOCK_PROCESS_CPUTIME_ID} else {libc::CLOCK_MONOTONIC}, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
fn best(mut f: impl FnMut()) -> f64 { f(); let mut b = f64::MAX; let s=seconds(); let mut n=0; while n<3 || (seconds()-s<0.6 && n<50) { let t=seconds(); f(); b=b.min(seconds()-t); n+=1;} b }
fn go<E: Element>(ci: usize, co: usize, size: &[usize]) -> Result<()> {
    let img = Tensor::randn(0f32,1.0,[&[1,1],size].concat(),&Device::Cpu)?;
    let k=|co:usize,ci:usize| Tensor::randn(0f32,0.1,[vec![co,ci],vec![3;size.len()]].concat(),&Device::Cpu);
    let m = Map::<E>::of_image(&img,0)?;
    let (x,mo) = PackedConv::new(&k(ci,1)?,&[1],Method::Direct)?.run(&[&m])?;
    let g=Tensor::ones(ci,candle_core::DType::F32,&Device::Cpu)?;
    let mut x=x; InstanceNorm::new(&g,&g,1e-5,0.1)?.run(&mut x,&mo)?;
    let w=k(co,ci)?; let c = PackedConv::new(&w,&[ci],Method::Direct)?;
    let t = best(|| { c.run(&[&x]).unwrap(); });
    if size.len()==2 { let c = PackedConv::new(&w,&[ci],Method::Winograd)?; let t = best(|| { c.run(&[&x]).unwrap(); }); println!("   winograd {:.2} ms, {:?}", t*1e3, Method::fastest(&w, x.size())); }
    let fl = 2.0*(ci*co*size.iter().product::<usize>()*3usize.pow(size.len() as u32)) as f64;
    let g=Tensor::ones(co,candle_core::DType::F32,&Device::Cpu)?;
    let n=InstanceNorm::new(&g,&g,1e-5,0.1)?; let (mut y,mo)=c.run(&[&x])?;
    let tn = best(|| n.run(&mut y,&mo).unwrap());
    let h = PackedHead::<E>::new(&Tensor::randn(0f32,0.1,[vec![14,co],vec![1;size.len()]].concat(),&Device::Cpu)?,&Tensor::zeros(14,candle_core::DType::F32,&Device::Cpu)?)?;
    let th = best(|| {h.run(&y).unwrap();});
    println!("{} {ci}->{co} {size:?}: {:.2} ms {:.0} GF/s; norm {:.2} head {:.2}", E::NAME, t*1e3, fl/t/1e9, tn*1e3, th*1e3);
    Ok(())
}
fn main() -> Result<()> {
    ops::tune_process();
    let f = std::env::args().nth(1).unwrap_or_default();
    for (ci,co,s) in [(128,128,vec![304,368]),(48,128,vec![304,368]),(16,16,vec![304,368]),(32,32,vec![152,184]),(256,256,vec![19,23]),(128,128,vec![38,46]),(16,16,vec![128,128,128]),(32,16,vec![128,128,128]),(32,32,vec![32,32,32])] {
        if !format!("{ci}->{co}").contains(&f) {continue}
        go::<f32>(ci,co,&s)?; go::<Bf16>(ci,co,&s)?;
    }
    Ok(())
}
