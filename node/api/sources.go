package api

func (a *API) sourceRoutes()   {}
func (a *API) citationRoutes() {}
