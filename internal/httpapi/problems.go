package httpapi

import (
	"context"

	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/problem"
)

// ListProblems explains every problem code.
func (s *publicServer) ListProblems(
	context.Context, publicapi.ListProblemsRequestObject,
) (publicapi.ListProblemsResponseObject, error) {
	table := problem.Table()
	out := publicapi.ListProblems200JSONResponse{Problems: make([]publicapi.ProblemMeaning, len(table))}
	for i, m := range table {
		out.Problems[i] = s.renderMeaning(m.Code)
	}
	return out, nil
}

// GetProblem explains one problem code: the type of a problem leads here.
func (s *publicServer) GetProblem(
	_ context.Context, in publicapi.GetProblemRequestObject,
) (publicapi.GetProblemResponseObject, error) {
	code := problem.Code(in.Code)
	if problem.MeaningOf(code).Code != code {
		return nil, problem.New(problem.NotFound, "There is no problem code of this name.")
	}
	return publicapi.GetProblem200JSONResponse(s.renderMeaning(code)), nil
}

func (s *shared) renderMeaning(code problem.Code) publicapi.ProblemMeaning {
	m := s.meaning(code)
	return publicapi.ProblemMeaning{
		Code: string(m.Code), Type: problemPages + string(m.Code), Title: m.Title,
		Status:    int32(m.Status), //nolint:gosec // three digits
		Retryable: m.Retryable, SafeNewKey: m.SafeNewKey, Stored: m.Stored, Advice: m.Advice,
	}
}

// GetLivez says that the process runs.
func (s *publicServer) GetLivez(
	context.Context, publicapi.GetLivezRequestObject,
) (publicapi.GetLivezResponseObject, error) {
	return publicapi.GetLivez200JSONResponse{Status: publicapi.LivenessStatusOk}, nil
}
