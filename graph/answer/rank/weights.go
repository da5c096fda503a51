package rank

// Coefficients, fitted by BenchmarkFit of package answer (`go test -run none
// -bench Fit -benchtime 1x ./graph/answer/`) on the even articles of XQuAD
// English and on measure.NewFacts with the seeds 0 and 2; measured on the odd
// articles and the seeds 1 and 3. Ranking maximises the likelihood of a softmax
// over each question's candidates; judging is logistic regression on whether the
// first one is right, with the evidence shown, its sentence hidden, and its
// paragraph hidden.
//
// From text alone, on what was not fitted: XQuAD P@1 .81, P@3 .95; facts P@1 .90,
// P@3 .97. With minSure and MayAnswer: XQuAD answers .49 at precision .93, false
// answers .09 with the sentence hidden and .02 with the paragraph hidden; facts
// answers .45 at .99, false answers .01.

// lexicalWeights belong to Features.Lexical.
var lexicalWeights = [14]float64{-16.00, -1.67, 5.49, 2.89, 6.28, -0.49, 2.30, 0.64, 5.30, 2.21, 0, -2.55, 1.96, -6.07}

// vectorWeights belong to Features.Vectored. With all-MiniLM-L6-v2, on what was
// not fitted: XQuAD P@1 .83, P@3 .96; facts P@1 .92, P@3 .98.
var vectorWeights = [17]float64{-14.26, -4.68, 5.74, 3.21, 5.24, -0.76, 1.89, 0.21, 4.55, 2.16, 0.01, -2.82, 1.76, -4.92, 3.00, -0.18, -3.33}

// judgeWeights belong to JudgeFeatures, judgeVectorWeights to the same where
// vectors are known: XQuAD answers .52 at precision .95, false answers .08 with
// the sentence hidden and .01 with the paragraph hidden; facts .46 at .99, .01.
var (
	judgeWeights       = [14]float64{-5.96, 1.60, 3.61, 5.51, -0.86, -0.85, 0.62, -0.05, 0.30, -0.27, 2.10, -1.28, 2.45, 0}
	judgeVectorWeights = [14]float64{-7.95, 0.27, 4.39, 3.24, 0.62, 0.08, 0.42, 0.20, 0.23, -0.43, 1.76, -0.80, 1.20, 3.85}
)
