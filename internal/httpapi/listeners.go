package httpapi

import (
	"errors"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"example.com/holdfast/api"
	"example.com/holdfast/internal/httpapi/internal/adminapi"
	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/problem"
)

// New is the handler of the public listener.
func New(cfg Config) http.Handler {
	cfg = cfg.withDefaults()
	s := &shared{
		cfg: cfg, strict: strictly(), limits: newLimiter(cfg.RatePerSecond),
		room: newRoom(cfg.InFlightMax, tenantParts), streamRoom: newRoom(cfg.StreamsMax, streamParts),
	}
	s.signIn = s.byAPIKey
	f := &front{shared: s, router: chi.NewRouter()}
	options := publicapi.StrictHTTPServerOptions{
		RequestErrorHandlerFunc: s.failed, ResponseErrorHandlerFunc: s.failed,
	}
	strict := publicapi.NewStrictHandlerWithOptions(&publicServer{shared: s}, nil, options)
	wrapper := &public{Handler: strict, ErrorHandlerFunc: s.badPublicParameter}
	for _, r := range publicRoutes() {
		f.mount(&r.route, func(w http.ResponseWriter, req *http.Request) { r.handle(wrapper, w, req) })
	}
	f.documents("Holdfast API", "/openapi", api.Public())
	f.router.Get("/", http.RedirectHandler("/docs/", http.StatusFound).ServeHTTP)
	return f
}

// NewAdmin is the handler of the admin listener. Mount other things of that listener beside it, not
// behind it.
func NewAdmin(cfg Config) http.Handler {
	s := &shared{cfg: cfg.withDefaults(), strict: strictly()}
	s.signIn = s.byAdminKey
	f := &front{shared: s, router: chi.NewRouter()}
	options := adminapi.StrictHTTPServerOptions{
		RequestErrorHandlerFunc: s.failed, ResponseErrorHandlerFunc: s.failed,
	}
	strict := adminapi.NewStrictHandlerWithOptions(&adminServer{shared: s}, nil, options)
	wrapper := &admin{Handler: strict, ErrorHandlerFunc: s.badAdminParameter}
	for _, r := range adminRoutes() {
		f.mount(&r.route, func(w http.ResponseWriter, req *http.Request) { r.handle(wrapper, w, req) })
	}
	f.documents("Holdfast admin API", "/openapi", api.Admin())
	return f
}

func (f *front) mount(rt *route, next http.HandlerFunc) {
	serve := f.guard(rt, next)
	if rt.has(streamable) {
		serve = eitherWay(serve, f.guard(rt.asStream(), next))
	}
	f.router.Method(rt.method, rt.pattern, serve)
	f.router.NotFound(func(w http.ResponseWriter, r *http.Request) {
		f.failed(w, r, problem.New(problem.RouteNotFound, "There is nothing at this path."))
	})
	f.router.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", f.allowed(r.URL.Path))
		f.failed(w, r, problem.New(problem.MethodNotAllowed, "The path does not take %s.", r.Method))
	})
}

// allowed lists the methods that a path takes.
func (f *front) allowed(path string) string {
	var methods []string
	for _, method := range []string{get, post, put, del} {
		if f.router.Match(chi.NewRouteContext(), method, path) {
			methods = append(methods, method)
		}
	}
	return strings.Join(methods, ", ")
}

// failed answers with a problem from inside the generated code.
func (s *shared) failed(w http.ResponseWriter, r *http.Request, err error) {
	s.fail(w, callOf(r.Context()), err)
}

func (s *shared) badPublicParameter(w http.ResponseWriter, r *http.Request, err error) {
	name := ""
	if format, ok := errors.AsType[*publicapi.InvalidParamFormatError](err); ok {
		name = format.ParamName
	}
	s.badParameter(w, r, name, err)
}

func (s *shared) badAdminParameter(w http.ResponseWriter, r *http.Request, err error) {
	name := ""
	if format, ok := errors.AsType[*adminapi.InvalidParamFormatError](err); ok {
		name = format.ParamName
	}
	s.badParameter(w, r, name, err)
}

// badParameter answers for a parameter that the generated code could not read. An id in the path
// that is no id is an id that does not exist.
func (s *shared) badParameter(w http.ResponseWriter, r *http.Request, name string, err error) {
	c := callOf(r.Context())
	switch name {
	case "":
		s.fail(w, c, err)
	case "id", "tenant_id":
		s.fail(w, c, noSuchID())
	default:
		s.fail(w, c, problem.Invalid(name, "has the wrong form"))
	}
}
